"""The tables of version 0.1.0; a database that programs have filled already has them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

# feature_views: the version of a view that was switched to last is the current one; without a time
# it is being filled. Its definition is JSON and not JSONB, since the text decides the fingerprint.
# labels: one is about a prediction, or about a user at a time. Only those that were reported
# through the API have a time of receipt.
# profile_changes: ids compare by their bytes, as Python compares them.
TABLES = """
SELECT pg_advisory_xact_lock(hashtext('fti create'));
CREATE SCHEMA IF NOT EXISTS mlflow;
CREATE TABLE IF NOT EXISTS feature_views (
    view text NOT NULL,
    fingerprint text NOT NULL,
    entity text NOT NULL,
    table_name text NOT NULL,
    definition json NOT NULL,
    created_timestamp timestamptz NOT NULL DEFAULT now(),
    switched_at timestamptz,
    PRIMARY KEY (view, fingerprint)
);
CREATE TABLE IF NOT EXISTS feature_view_readers (
    owner text NOT NULL,
    reader text NOT NULL,
    fingerprint text NOT NULL,
    PRIMARY KEY (owner, reader)
);
CREATE TABLE IF NOT EXISTS labels (
    user_id bigint,
    prediction_id uuid,
    label smallint NOT NULL,
    label_time timestamptz NOT NULL,
    created_timestamp timestamptz NOT NULL,
    received_at timestamptz
);
CREATE INDEX IF NOT EXISTS labels_by_user ON labels (user_id, label_time, created_timestamp);
ALTER TABLE labels ADD COLUMN IF NOT EXISTS received_at timestamptz;
CREATE INDEX IF NOT EXISTS labels_by_prediction ON labels (prediction_id, created_timestamp)
    WHERE prediction_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS quarantine (
    view text NOT NULL,
    source text NOT NULL,
    row_number bigint NOT NULL,
    reason text NOT NULL,
    raw jsonb NOT NULL,
    created_timestamp timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX IF NOT EXISTS quarantine_once
    ON quarantine (view, source, row_number, md5(reason || raw::text));
CREATE TABLE IF NOT EXISTS profile_changes (
    event_id text COLLATE "C" PRIMARY KEY,
    user_id bigint NOT NULL,
    event_timestamp timestamptz NOT NULL,
    attributes jsonb NOT NULL,
    created_timestamp timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS profile_changes_by_user ON profile_changes (user_id, event_timestamp);
CREATE TABLE IF NOT EXISTS user_events (
    event_id text PRIMARY KEY,
    user_id bigint NOT NULL,
    event_timestamp timestamptz NOT NULL,
    event_type text NOT NULL,
    amount_cents bigint,
    created_timestamp timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS user_events_by_user ON user_events (user_id, event_timestamp)
    INCLUDE (event_type, amount_cents, created_timestamp);
CREATE TABLE IF NOT EXISTS user_events_clock (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    last_time timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS watermarks (
    view text NOT NULL,
    fingerprint text NOT NULL,
    source text NOT NULL,
    position json NOT NULL,
    advanced_at timestamptz NOT NULL,
    PRIMARY KEY (view, fingerprint, source)
);
CREATE TABLE IF NOT EXISTS deployments (
    model_name text NOT NULL,
    generation integer NOT NULL,
    action text NOT NULL,
    reason text NOT NULL,
    mode text NOT NULL,
    salt text NOT NULL,
    experiment text,
    arms jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (model_name, generation)
);
CREATE TABLE IF NOT EXISTS model_stage_history (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_name text NOT NULL,
    version integer NOT NULL,
    label text NOT NULL,
    path text[] NOT NULL,
    generation integer,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS model_overrides (
    override_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_name text NOT NULL,
    version integer NOT NULL,
    label text NOT NULL,
    overruled text NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    forced_at timestamptz NOT NULL,
    generation integer
);
CREATE TABLE IF NOT EXISTS model_gate_decisions (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_name text NOT NULL,
    version integer NOT NULL,
    label text NOT NULL,
    passed boolean NOT NULL,
    decision jsonb NOT NULL,
    judged_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS predictions (
    prediction_id uuid NOT NULL,
    predicted_at timestamptz NOT NULL,
    user_id bigint,
    unit text NOT NULL,
    arm text NOT NULL,
    model_version text NOT NULL,
    probability double precision NOT NULL,
    decision smallint NOT NULL,
    scored jsonb NOT NULL,
    experiment text,
    propensity double precision NOT NULL,
    generation integer NOT NULL,
    engine text NOT NULL,
    flags text[] NOT NULL,
    feature_event_time timestamptz,
    schema_fingerprint text NOT NULL,
    features real[] NOT NULL,
    PRIMARY KEY (prediction_id, predicted_at)
);
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (predicted_at);
CREATE INDEX IF NOT EXISTS predictions_by_user ON predictions (user_id, predicted_at);
CREATE TABLE IF NOT EXISTS shipped_segments (
    segment text PRIMARY KEY,
    shipped_bytes bigint NOT NULL,
    shipped_at timestamptz NOT NULL DEFAULT now()
)
"""


def upgrade() -> None:
    """Make what is not there."""
    op.get_bind().exec_driver_sql(TABLES)
