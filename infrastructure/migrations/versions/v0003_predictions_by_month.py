"""The prediction log in a partition a month; what is there already moves into it.

All receipts are copied while writers wait (theirs stay in the spool). Moving ten million rows takes
minutes, so choose a quiet hour.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('predictions')"
PARTITIONED = """
SELECT pg_advisory_xact_lock(hashtext('fti create'));
ALTER TABLE predictions RENAME TO predictions_before;
ALTER INDEX predictions_pkey RENAME TO predictions_before_pkey;
ALTER INDEX predictions_by_time RENAME TO predictions_before_by_time;
ALTER INDEX predictions_by_user RENAME TO predictions_before_by_user;
CREATE TABLE predictions (LIKE predictions_before INCLUDING DEFAULTS)
    PARTITION BY RANGE (predicted_at);
ALTER TABLE predictions ADD PRIMARY KEY (prediction_id, predicted_at);
CREATE INDEX predictions_by_time ON predictions (predicted_at);
CREATE INDEX predictions_by_user ON predictions (user_id, predicted_at);
CREATE TABLE predictions_default PARTITION OF predictions DEFAULT;
DO $$
DECLARE month timestamptz;
BEGIN
    FOR month IN
        SELECT DISTINCT date_trunc('month', predicted_at, 'UTC') FROM predictions_before
    LOOP
        EXECUTE 'CREATE TABLE predictions_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')
            || ' PARTITION OF predictions FOR VALUES FROM (' || quote_literal(month) || ') TO ('
            || quote_literal((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC')
            || ')';
    END LOOP;
END $$;
INSERT INTO predictions SELECT * FROM predictions_before;
DROP TABLE predictions_before
"""


def upgrade() -> None:
    """Partition the table, unless a program has made it so."""
    connection = op.get_bind()
    if not connection.exec_driver_sql(IS_PARTITIONED).scalar():
        connection.exec_driver_sql(PARTITIONED)
