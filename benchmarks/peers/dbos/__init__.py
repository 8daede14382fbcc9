"""DBOS, on SQLite and on Postgres."""
