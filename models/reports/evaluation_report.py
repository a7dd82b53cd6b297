"""A closer look at a judged model: intervals, slices, fairness, calibration, contributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.training_config import TrainingConfig
from models.base import Labels, Values
from models.evaluation import intervals
from models.evaluation.calibration import Bin, reliability
from models.evaluation.explanations import Contributions, contributions
from models.evaluation.fairness import Fairness, fairness
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import HALF, counts, row_losses, squared_errors
from models.evaluation.slices import Slice, slices
from models.rows.masking import Masker
from models.rows.split import Part, Split
from models.tabular_model import TabularModel

if TYPE_CHECKING:
    from models.training.learning_curve import CurvePoint
    from models.training.tuning import Tuned


@dataclass(frozen=True)
class OtherModel:
    """Another model on the same test rows.

    Parameters
    ----------
    metrics
        Its metrics, by name.
    gains
        By how much its mean log loss, Brier score and accuracy are larger, paired by row.
    parity
        Its demographic parity difference by protected attribute.
    """

    metrics: Mapping[str, float]
    gains: Mapping[str, Estimate]
    parity: Mapping[str, float]


@dataclass(frozen=True)
class Extras:
    """What was found beside the model itself, where it was asked for.

    Parameters
    ----------
    tuned
        The search for its hyper-parameters.
    curve
        Its learning curve.
    whole
        A model with the protected features, trained and judged on the same split.
    """

    tuned: Tuned | None = None
    curve: tuple[CurvePoint, ...] = ()
    whole: OtherModel | None = None


NO_EXTRAS = Extras()


@dataclass(frozen=True)
class EvaluationReport:
    """What the test rows say about a model, beyond its metrics.

    Parameters
    ----------
    headline
        Metrics with intervals, by the names of `evaluation.metrics`.
    """

    labels: Labels = field(repr=False)
    probabilities: Values = field(repr=False)
    threshold: float
    headline: Mapping[str, Estimate]
    slices: tuple[Slice, ...]
    fairness: tuple[Fairness, ...]
    reliability: tuple[Bin, ...]
    explained: Contributions
    extras: Extras

    def metrics(self) -> dict[str, float]:
        """Those that belong among a run's metrics, by name."""
        return {
            f"{name}_{each.by}": getattr(each, name)
            for each in self.fairness
            for name in ("demographic_parity_difference", "equalized_odds_difference")
        }

    def to_json(self) -> dict[str, Any]:
        """Give all but the rows as JSON values; what cannot be said is null."""
        found = {
            "headline": self.headline,
            "slices": self.slices,
            "fairness": self.fairness,
            "reliability": self.reliability,
            "mean_contribution": self.explained.mean_size(),
            "learning_curve": self.extras.curve,
            "with_protected": self.extras.whole,
        }
        values: dict[str, Any] = _plain(found)
        return values


def evaluate_in_detail(
    model: TabularModel,
    split: Split,
    masker: Masker,
    config: TrainingConfig,
    extras: Extras = NO_EXTRAS,
) -> EvaluationReport:
    """Judge a model on the test part in detail; its features may be fewer than the split's."""
    test, settings = split.test, config.evaluation
    p = model.predict_proba(masker.narrow(test.features))
    few = settings.smallest_slice
    groups = test.features, test.labels, p, model.threshold, settings.slices, few
    return EvaluationReport(
        labels=test.labels,
        probabilities=p,
        threshold=model.threshold,
        headline=headline(test.labels, p, model.threshold),
        slices=slices(*groups),
        fairness=fairness(*groups),
        reliability=reliability(test.labels, p),
        explained=_explained(model, split, masker, config),
        extras=extras,
    )


def compare(
    model: TabularModel, other: TabularModel, test: Part, masker: Masker, config: TrainingConfig
) -> OtherModel:
    """Judge another model, which takes all features, beside one on the same test rows."""
    ours = model.predict_proba(masker.narrow(test.features))
    theirs, labels, settings = other.predict_proba(test.features), test.labels, config.evaluation
    right = [((p >= HALF) == (labels == 1)).astype(np.float64) for p in (ours, theirs)]
    squares = [squared_errors(labels, p) for p in (ours, theirs)]
    losses = [row_losses(labels, p) for p in (ours, theirs)]
    pairs = {"accuracy": right, "log_loss": losses, "brier": squares}
    groups = test.features, labels, theirs, other.threshold, settings.slices
    return OtherModel(
        metrics=other.evaluate(test.features, labels),
        gains={name: intervals.mean(after - before) for name, (before, after) in pairs.items()},
        parity={
            each.by: each.demographic_parity_difference
            for each in fairness(*groups, settings.smallest_slice)
        },
    )


def headline(labels: Labels, probabilities: Values, threshold: float) -> dict[str, Estimate]:
    """The metrics that have intervals, by the names of `evaluation.metrics`."""
    n = len(labels)
    tp, fp, fn, tn = counts(labels, probabilities, threshold)
    half = counts(labels, probabilities)
    return {
        "accuracy": intervals.share(half[0] + half[3], n),
        "roc_auc": intervals.roc_auc(labels, probabilities),
        "pr_auc": intervals.average_precision(labels, probabilities),
        "log_loss": intervals.mean(row_losses(labels, probabilities)),
        "brier": intervals.mean(squared_errors(labels, probabilities)),
        "f1_score": intervals.f1_score(tp, fp, fn, tn),
        "precision": intervals.share(tp, tp + fp),
        "recall": intervals.share(tp, tp + fn),
        "accuracy_at_threshold": intervals.share(tp + tn, n),
    }


def _explained(
    model: TabularModel, split: Split, masker: Masker, config: TrainingConfig
) -> Contributions:
    random = np.random.default_rng(config.seed)
    n = min(config.evaluation.explained_rows, len(split.test))
    drawn = np.sort(random.choice(len(split.test), n, replace=False))
    rows = masker.narrow(split.test.features.rows(drawn))
    return contributions(model, rows, masker.narrow(split.validation.features), config.seed)


def _plain(value: Any) -> Any:
    """JSON values of dataclasses, mappings, sequences and numbers; NaN is null."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
