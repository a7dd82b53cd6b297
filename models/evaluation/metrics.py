"""How good predictions are: metrics, the decision threshold, and what is left when much is absent.

Every function takes labels ``(n,)`` of 0 and 1 and probabilities of 1 ``(n,)``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from configs.training_config import DecisionConfig
from feature_store.definitions.engine import FeatureMatrix
from models.base import Classifier, Labels, Values, refuse_one_class, share_cores
from models.rows.masking import Masker

ThresholdObjective = Literal["balanced", "f1", "accuracy", "cost", "precision"]
Numbers = NDArray[np.float64]

SMALLEST = 1e-7
"""Probabilities are kept so far from 0 and 1 in logarithms: float32 has no more near 1."""
HALF = 0.5
USUAL_DECISION = DecisionConfig()
ECE_BINS = 15
"""Of equal width, as publications have them (Guo et al. 2017)."""
SMOOTHING_SHARE = 0.05
"""Half-width, as a share of the rows, of the window that smooths an objective over thresholds."""


def metrics(labels: Labels, probabilities: Values, threshold: float) -> dict[str, float]:
    """Judge probabilities, and the decisions at a threshold.

    ``f1_score``, ``precision``, ``recall`` and ``accuracy_at_threshold`` are those of the decisions
    at ``threshold``, which are served. ``accuracy`` and ``f1_score_at_half`` are those at 0.5, as
    other publications give them: no threshold is best for both accuracy and F1.

    Raises
    ------
    TrainingRefused
        If there are no rows, or all have one label: nothing can be ranked then.
    """
    share_cores()
    from sklearn.metrics import average_precision_score, roc_auc_score

    refuse_one_class(labels, "Evaluation")
    at_threshold, at_half = counts(labels, probabilities, threshold), counts(labels, probabilities)
    tp, fp, fn, _ = at_threshold
    return {
        "accuracy": accuracy(*at_half),
        "accuracy_at_threshold": accuracy(*at_threshold),
        "f1_score": f1(*at_threshold),
        "precision": tp / max(tp + fp, 1),
        "recall": tp / max(tp + fn, 1),
        "threshold": threshold,
        "f1_score_at_half": f1(*at_half),
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "pr_auc": float(average_precision_score(labels, probabilities)),
        "log_loss": log_loss(labels, probabilities),
        "brier": float(np.mean(squared_errors(labels, probabilities))),
        "ece": calibration_error(labels, probabilities),
    }


def calibration_error(labels: Labels, probabilities: Values) -> float:
    """Expected calibration error: mean distance of probability and frequency over bins.

    Examples
    --------
    >>> calibration_error(np.array([0, 1, 1, 1], dtype=np.int8), np.full(4, 0.5, dtype=np.float32))
    0.25
    """
    place = np.minimum((probabilities * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    off = np.bincount(place, probabilities.astype(np.float64) - labels, ECE_BINS)
    return float(np.abs(off).sum() / len(labels))


def masked_metrics(
    model: Classifier,
    features: FeatureMatrix,
    labels: Labels,
    masker: Masker,
    request_attributes: Collection[str],
) -> dict[str, float]:
    """Log loss with only some attributes present, with none, and of always saying the base rate.

    The base rate is that of these labels, so ``log_loss_base_rate`` is the least that any
    constant can reach on them.
    """
    n = len(labels)
    base_rate = np.full(n, labels.mean(), dtype=np.float64)
    result = {"log_loss_base_rate": log_loss(labels, base_rate)}
    present = {"request_attributes": request_attributes, "all_missing": ()}
    for name, attributes in present.items():
        values = masker.hide(features.values, masker.all_but(n, attributes))
        hidden = FeatureMatrix(values, features.keys, features.times, features.schema)
        result[f"log_loss_{name}"] = log_loss(labels, model.predict_proba(hidden))
    return result


def choose_threshold(
    labels: Labels,
    probabilities: Values,
    objective: ThresholdObjective = "balanced",
    decision: DecisionConfig = USUAL_DECISION,
) -> float:
    """Find the threshold with the best decisions on validation rows.

    Parameters
    ----------
    objective
        ``accuracy`` favours few errors, ``f1`` finding the 1s; ``balanced`` maximises their sum.
        F1 is flat about its best threshold, accuracy is not: on the Adult data the balanced
        threshold has the F1 of the best one and 0.006 more accuracy. ``cost`` minimises what
        errors cost; ``precision`` finds as many 1s as it can at the target precision, or comes
        as near to that precision as possible.
    decision
        The costs, and the precision.

    Notes
    -----
    The objective over thresholds is a jagged line; its highest point is chance, and lies elsewhere
    in another sample. So it is averaged over the thresholds of neighbouring rows first.
    """
    refuse_one_class(labels, "The choice of a threshold")
    order = np.argsort(-probabilities, kind="stable")
    descending, positives = probabilities[order].astype(np.float64), labels[order] == 1
    tp = np.cumsum(positives)
    fp = np.arange(1, len(labels) + 1) - tp
    best = _best_place(tp, fp, objective, decision)
    # Between two rows, so that rounding in another engine moves no decision.
    return float(np.mean(descending[best : best + 2]))


def _best_place(
    tp: NDArray[np.int64],
    fp: NDArray[np.int64],
    objective: ThresholdObjective,
    decision: DecisionConfig,
) -> int:
    """Place of the last row to predict as 1, from true and false positives up to each row."""
    fn, n = tp[-1] - tp, len(tp)
    accuracy, f1 = 1 - (fp + fn) / n, 2 * tp / (2 * tp + fp + fn)
    if objective == "precision":
        precision = _smoothed(tp / (tp + fp))
        reached = np.flatnonzero(precision >= decision.target_precision)
        return int(reached[-1]) if len(reached) else int(np.argmax(precision))
    cost = decision.cost_false_positive * fp + decision.cost_false_negative * fn
    scores = {"balanced": accuracy + f1, "f1": f1, "accuracy": accuracy, "cost": -cost / n}
    return int(np.argmax(_smoothed(scores[objective])))


def counts(
    labels: Labels, probabilities: Values, threshold: float = HALF
) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives at a threshold."""
    predicted, actual = probabilities >= threshold, labels == 1
    tp = int(np.count_nonzero(predicted & actual))
    fp, fn = int(predicted.sum()) - tp, int(actual.sum()) - tp
    return tp, fp, fn, len(labels) - tp - fp - fn


def log_loss(labels: Labels, probabilities: Values | Numbers) -> float:
    """Mean negative log-likelihood, in nats.

    Examples
    --------
    >>> round(log_loss(np.array([0, 1], dtype=np.int8), np.array([0.5, 0.5])), 4)
    0.6931
    """
    return float(np.mean(row_losses(labels, probabilities)))


def row_losses(labels: Labels, probabilities: Values | Numbers) -> Numbers:
    """Negative log-likelihood of each row ``(n,)``, in nats."""
    p = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    losses: Numbers = -np.where(labels == 1, np.log(p), np.log1p(-p))
    return losses


def squared_errors(labels: Labels, probabilities: Values) -> Numbers:
    """Squared error of each row's probability ``(n,)``; their mean is the Brier score."""
    return np.square(probabilities.astype(np.float64) - labels)


def accuracy(tp: int, fp: int, fn: int, tn: int) -> float:
    """Share of right decisions, of what `counts` gives."""
    return (tp + tn) / (tp + fp + fn + tn)


def f1(tp: int, fp: int, fn: int, _tn: int) -> float:
    """Harmonic mean of precision and recall, of what `counts` gives; 0 without any 1."""
    return 2 * tp / max(2 * tp + fp + fn, 1)


def _smoothed(scores: Numbers) -> Numbers:
    """Average each score with its neighbours; fewer of them near the ends."""
    half = int(len(scores) * SMOOTHING_SHARE)
    total = np.concatenate([[0.0], np.cumsum(scores)])
    place = np.arange(len(scores))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(scores))
    averaged: Numbers = (total[high] - total[low]) / (high - low)
    return averaged


def logits_of(probabilities: Values) -> Numbers:
    """Logits of probabilities, kept so far from 0 and 1 as float32 can tell them from these.

    Examples
    --------
    >>> float(logits_of(np.array([0.5], dtype=np.float32))[0])
    0.0
    """
    p = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(p) - np.log1p(-p)
