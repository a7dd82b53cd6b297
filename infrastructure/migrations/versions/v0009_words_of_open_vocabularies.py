"""The words of categories whose vocabulary is open, with the codes that stand for them."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"

# Rows are added and never changed: stored features hold the codes.
TABLE = """
CREATE TABLE IF NOT EXISTS category_words (
    view text NOT NULL,
    feature text NOT NULL,
    code smallint NOT NULL,
    word text NOT NULL,
    created_timestamp timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (view, feature, code),
    UNIQUE (view, feature, word)
)
"""


def upgrade() -> None:
    """Add the table."""
    op.get_bind().exec_driver_sql(TABLE)
