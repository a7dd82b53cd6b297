"""What each role may do: see `infrastructure.migrations.grants`.

A role that is not there is passed over, since a managed PostgreSQL lets only an administrator make
roles; ``python -m infrastructure migrate`` names it, and ``roles`` makes it and grants what is due.
"""

from __future__ import annotations

from alembic import op

from infrastructure.migrations.grants import GRANTS

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Grant, to roles that are there, what they need of tables that are ours."""
    op.get_bind().exec_driver_sql(GRANTS)
