"""What consumers of Kafka have done: offsets beside the data that follows from the messages."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

# source: the cluster and the topic, since an offset means something in one only. starts: how often
# a reader began near began_at without handing the partition back in between.
TABLES = """
CREATE TABLE stream_offsets (
    consumer_group text NOT NULL,
    source text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    owner text,
    starts integer NOT NULL,
    began_at bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer_group, source, partition)
);
CREATE TABLE stream_tries (
    consumer_group text NOT NULL,
    source text NOT NULL,
    partition integer NOT NULL,
    message_offset bigint NOT NULL,
    tries integer NOT NULL,
    PRIMARY KEY (consumer_group, source, partition, message_offset)
);
CREATE TABLE stream_dead_letters (
    consumer_group text NOT NULL,
    source text NOT NULL,
    partition integer NOT NULL,
    message_offset bigint NOT NULL,
    reason text NOT NULL,
    tries integer NOT NULL,
    given_up_at timestamptz NOT NULL,
    key bytea,
    value bytea,
    PRIMARY KEY (consumer_group, source, partition, message_offset)
);
CREATE INDEX stream_dead_letters_by_time
    ON stream_dead_letters (consumer_group, source, given_up_at)
"""


def upgrade() -> None:
    """Make the tables."""
    op.get_bind().exec_driver_sql(TABLES)
