"""What Alembic runs: the connection comes from `infrastructure.migrations.migrate`."""

from __future__ import annotations

from alembic import context

from infrastructure.migrations import VERSION_TABLE

LOCK = "SELECT pg_advisory_lock(hashtext('fti migrations'))"
UNLOCK = "SELECT pg_advisory_unlock(hashtext('fti migrations'))"

connection = context.config.attributes["connection"]
connection.exec_driver_sql(LOCK)
connection.commit()
try:
    context.configure(
        connection=connection, version_table=VERSION_TABLE, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
finally:
    connection.rollback()
    connection.exec_driver_sql(UNLOCK)
    connection.commit()
