"""A receipt of an experiment."""

from __future__ import annotations

import numpy as np

from monitoring.log.record import Context, Flags, PredictionRecord, ScoredArm, new_prediction_id

NOW_US = 1_700_000_000_123_456
CONTEXT = Context(
    generation=3,
    arm="challenger",
    propensity=0.1,
    scored=(ScoredArm("champion", 1, "xgb-v1"), ScoredArm("challenger", 2, "xgb-v2")),
    experiment="an experiment",
    engine="onnxruntime",
    fingerprint="0123456789abcdef",
    threshold=0.4,
)
VECTOR = np.array([35.0, np.nan, -0.0, 1e-40, np.float32(0.1)], dtype=np.float32)


def receipt(user_id: int | None = 7, unit: str = "7", flags: Flags = Flags.NONE):
    return PredictionRecord(
        prediction_id=new_prediction_id(NOW_US),
        predicted_at_us=NOW_US,
        user_id=user_id,
        unit=unit,
        event_time_us=None if user_id is None else NOW_US - 1,
        vector=VECTOR,
        outputs=(0.3, 0.5),
        flags=flags,
        context=CONTEXT,
    )
