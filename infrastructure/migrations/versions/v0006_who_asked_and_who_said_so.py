"""The key that asked or reported a label, and whose labels count before those of others."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

# authority: of two labels of the same event the one of the higher counts: 1 those of a source, 0
# those that were reported. What was there before counts as it did, by its time alone.
COLUMNS = """
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS caller text;
ALTER TABLE labels ADD COLUMN IF NOT EXISTS caller text;
ALTER TABLE labels ADD COLUMN IF NOT EXISTS authority smallint NOT NULL DEFAULT 1
"""


def upgrade() -> None:
    """Add the columns."""
    op.get_bind().exec_driver_sql(COLUMNS)
