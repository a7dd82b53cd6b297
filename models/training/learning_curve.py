"""How quality grows with the number of training rows: whether more data would help."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from configs.training_config import TrainingConfig
from models.evaluation import intervals
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import row_losses
from models.families import new_model
from models.rows.masking import Masker
from models.rows.split import Split, sampled
from models.training.fit import fit_part

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True)
class CurvePoint:
    """Quality on the test part of a model that learned from this number of rows."""

    rows: int
    log_loss: Estimate
    roc_auc: Estimate
    seconds: float


def learning_curve(
    split: Split,
    masker: Masker,
    config: TrainingConfig,
    on_size: Callable[[int], object] = lambda more: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[CurvePoint, ...]:
    """Train on growing shares of the training part; the last sizes are left out when time is up.

    Everything else stays as it is: settings, validation and test rows.
    """
    points: list[CurvePoint] = []
    begun = clock()
    test = split.test
    for share in SHARES:
        before = clock()
        last = points[-1].seconds / points[-1].rows * len(split.train) * share if points else 0
        if before - begun + last > config.evaluation.learning_curve_seconds:
            break
        part = sampled(split.train, round(len(split.train) * share), config.seed)
        model = fit_part(
            new_model(config), part, split.validation, masker, config.masking, config.seed
        )
        p = model.predict_proba(masker.narrow(test.features))
        points.append(
            CurvePoint(
                len(part),
                intervals.mean(row_losses(test.labels, p)),
                intervals.roc_auc(test.labels, p),
                clock() - before,
            )
        )
        on_size(1)
    return tuple(points)
