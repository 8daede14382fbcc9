"""The learner: a lesson of every outcome, counts and corrections kept as facts with provenance."""
