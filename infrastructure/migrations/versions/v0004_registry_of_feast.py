"""Feast's registry; the mark of rows that follow from profile changes, in tables from before it."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = """
CREATE TABLE IF NOT EXISTS feast_registry (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version_id text NOT NULL,
    contents bytea NOT NULL,
    updated_timestamp timestamptz NOT NULL
);
DO $$
DECLARE stored regclass;
BEGIN
    FOR stored IN
        SELECT DISTINCT to_regclass(table_name) FROM feature_views
        WHERE table_name <> 'user_events' AND to_regclass(table_name) IS NOT NULL
    LOOP
        EXECUTE 'ALTER TABLE ' || stored
            || ' ADD COLUMN IF NOT EXISTS from_changes boolean NOT NULL DEFAULT false';
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Make what is not there."""
    op.get_bind().exec_driver_sql(TABLES)
