"""Plans of experiments and their decisions; what monitoring finds, tells and asks for."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
SELECT pg_advisory_xact_lock(hashtext('fti create'));
ALTER TABLE deployments ADD COLUMN IF NOT EXISTS plan jsonb;
ALTER TABLE deployments ADD COLUMN IF NOT EXISTS overrides jsonb;
CREATE TABLE IF NOT EXISTS experiment_decisions (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_name text NOT NULL,
    experiment text NOT NULL,
    champion text NOT NULL,
    challenger text NOT NULL,
    generation integer NOT NULL,
    action text NOT NULL,
    reason text NOT NULL,
    decided_by text NOT NULL,
    decided_at timestamptz NOT NULL,
    plan jsonb NOT NULL,
    evidence jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS experiment_decisions_of
    ON experiment_decisions (model_name, experiment, decision_id);
CREATE TABLE IF NOT EXISTS monitoring_passes (
    pass_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_name text NOT NULL,
    as_of timestamptz NOT NULL,
    model_version text,
    seconds double precision NOT NULL,
    results jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS monitoring_passes_by_time ON monitoring_passes (model_name, as_of);
CREATE TABLE IF NOT EXISTS monitoring_values (
    pass_id bigint NOT NULL REFERENCES monitoring_passes,
    model_name text NOT NULL,
    as_of timestamptz NOT NULL,
    metric text NOT NULL,
    labels jsonb NOT NULL,
    value double precision NOT NULL,
    detail text NOT NULL
);
CREATE INDEX IF NOT EXISTS monitoring_values_by_metric
    ON monitoring_values (model_name, metric, as_of);
CREATE INDEX IF NOT EXISTS monitoring_values_by_pass ON monitoring_values (pass_id);
CREATE TABLE IF NOT EXISTS alerts (
    key text PRIMARY KEY,
    name text NOT NULL,
    labels jsonb NOT NULL,
    state text NOT NULL,
    severity text NOT NULL,
    owner text NOT NULL,
    runbook text NOT NULL,
    summary text NOT NULL,
    detail text NOT NULL,
    value double precision NOT NULL,
    threshold double precision NOT NULL,
    since timestamptz NOT NULL,
    fired_at timestamptz,
    resolved_at timestamptz,
    notified_at timestamptz,
    is_announced boolean NOT NULL
);
CREATE TABLE IF NOT EXISTS alert_notices (
    notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    alert jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS alert_deliveries (
    notice_id bigint NOT NULL REFERENCES alert_notices,
    sink text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    delivered_at timestamptz,
    last_error text,
    PRIMARY KEY (notice_id, sink)
);
CREATE INDEX IF NOT EXISTS alert_deliveries_open ON alert_deliveries (sink, notice_id)
    WHERE delivered_at IS NULL;
CREATE TABLE IF NOT EXISTS retraining_requests (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_name text NOT NULL,
    reason text NOT NULL,
    alerts text[] NOT NULL,
    champion text,
    data_start timestamptz,
    data_end timestamptz NOT NULL,
    status text NOT NULL,
    label text,
    requested_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_retraining ON retraining_requests (model_name)
    WHERE status IN ('requested', 'training', 'judging', 'experiment');
CREATE TABLE IF NOT EXISTS retraining_steps (
    step_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id bigint REFERENCES retraining_requests,
    model_name text NOT NULL,
    step text NOT NULL,
    detail text NOT NULL,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL
)
"""


def upgrade() -> None:
    """Make what is not there."""
    op.get_bind().exec_driver_sql(TABLES)
