"""The keys of entities that are no whole numbers, beside the identities that stand for them."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

# id: what the column of the entity holds in the tables of features, events, labels and receipts.
TABLE = """
CREATE TABLE IF NOT EXISTS entity_keys (
    entity text NOT NULL,
    id bigint NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (id, entity)
)
"""


def upgrade() -> None:
    """Add the table."""
    op.get_bind().exec_driver_sql(TABLE)
