"""Features: written once, computed by one engine, kept in PostgreSQL and Redis."""
