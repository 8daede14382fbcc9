"""A Postgres of the run's own, from a wheel."""
