"""The feature store: features written once, computed by one engine, kept in PostgreSQL and Redis."""
