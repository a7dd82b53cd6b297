"""Exposures that a test makes up: columns, and receipts with labels in PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

from feature_store.feature_definitions import MODEL_VIEW
from models.deployment.ab_tests import start_ab_test, widen
from models.deployment.plan import ExperimentPlan
from models.deployment.record import Arm, Deployment, deploy
from monitoring.experiments.exposures import Exposures
from monitoring.log.record import Context, Flags, PredictionRecord, ScoredArm, new_prediction_id
from monitoring.log.table import copy_predictions

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLAN = ExperimentPlan(label_influence=False, label_horizon_s=3_600)


def made_up(
    n: int,
    share: float = 0.5,
    worse: float = 0.0,
    seed: int = 1,
    **columns: np.ndarray,
) -> Exposures:
    """A unit a second; the challenger's probabilities are off by ``worse`` more."""
    random = np.random.default_rng(seed)
    truth = random.uniform(0.1, 0.9, n)
    noise = random.normal(0, 0.05, (n, 2)) + np.array([0, worse]) * np.sign(truth - 0.5)[:, None]
    nobody = np.zeros(n, dtype=bool)
    values = {
        "unit": np.arange(n),
        "at_us": np.arange(n) * 1_000_000,
        "phase": np.zeros(n, dtype=np.int64),
        "is_challenger": random.random(n) < share,
        "probability": np.clip(truth[:, None] + noise, 0, 1),
        "threshold": np.full((n, 2), 0.5),
        "label": (random.random(n) < truth).astype(float),
        "is_over_budget": nobody,
        "is_failed": nobody,
        "is_degraded": nobody,
    }
    return Exposures(**(values | columns))


def arm(version: int) -> Arm:
    """A version of the present features."""
    uri = f"mlflow-artifacts:/{version}"
    return Arm("champion", version, f"xgb-v{version}", uri, "d" * 64, fingerprint="f")


def history(*shares: float, plan: ExperimentPlan = PLAN) -> list[Deployment]:
    """A test that has had these shares, an hour each."""
    records = [deploy(None, arm(1), START - HOUR)]
    for place, share in enumerate(shares):
        when = START + place * HOUR
        if place == 0:
            records.append(start_ab_test(records[-1], arm(2), share, "salt", when, plan=plan))
        else:
            records.append(widen(records[-1], share, when))
    return records


def receipt(
    record: Deployment,
    unit: str | None,
    at: datetime,
    is_challenger: bool = False,
    outputs: tuple[float, float] = (0.3, 0.4),
    flags: Flags = Flags.NONE,
    propensity: float | None = None,
    sex: int = 2,
) -> PredictionRecord:
    """The receipt of a paired test; without a unit the prediction itself is one."""
    at_us = round(at.timestamp() * 1_000_000)
    prediction_id = new_prediction_id(at_us)
    vector = np.zeros(len(MODEL_VIEW.schema), dtype=np.float32)
    vector[MODEL_VIEW.schema.position("sex")] = sex
    answering = record.arms[is_challenger]
    context = Context(
        generation=record.generation,
        arm=answering.name,
        propensity=answering.share if propensity is None else propensity,
        scored=tuple(ScoredArm(a.name, a.version, a.label, 0.5) for a in record.arms),
        experiment=record.experiment,
        engine="onnx",
        fingerprint=MODEL_VIEW.schema.fingerprint,
        threshold=0.5,
    )
    made = PredictionRecord(
        prediction_id,
        at_us,
        None,
        "",
        None,
        vector,
        tuple(map(float, outputs[: len(record.arms)])),
        flags,
        context,
    )
    user = int(unit) if unit is not None and unit.isdigit() else None
    return PredictionRecord(
        **(vars(made) | {"unit": made.uuid if unit is None else unit, "user_id": user})
    )


def store(connection: psycopg.Connection, *receipts: PredictionRecord) -> None:
    """Keep receipts."""
    copy_predictions(connection, receipts)


def label(
    connection: psycopg.Connection,
    value: int,
    known_at: datetime,
    of: PredictionRecord | None = None,
    user: int | None = None,
    about: datetime | None = None,
) -> None:
    """Keep a label of a prediction, or of a user at a time."""
    connection.execute(
        "INSERT INTO labels (user_id, prediction_id, label, label_time, created_timestamp)"
        " VALUES (%s, %s, %s, %s, %s)",
        (user, of.uuid if of else None, value, about or known_at, known_at),
    )
