"""PostgreSQL: tables, COPY, the newest rows, stored versions of a view."""
