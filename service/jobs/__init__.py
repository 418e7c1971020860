"""Jobs: durable workflows of DBOS, how they are sent and watched, and what keeps them going."""

from service.jobs.later import later

# DBOS imports these for PostgreSQL and for files of settings: 11 MiB of which nothing is asked for on SQLite.
with later("psycopg", "psycopg.errors", "yaml"):
    import dbos  # noqa: F401
