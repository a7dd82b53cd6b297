"""What each feature adds to a prediction: contributions that sum to its log-odds.

For trees they are exact (TreeSHAP). For any other model they are sampled: features of a row replace
those of a background row one by one, in random order; the change that a replacement makes is the
feature's contribution. That is
an unbiased estimate of the Shapley values, and for every row it sums exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from models.base import Classifier, Labels, Values
from models.evaluation.metrics import log_loss, logits_of

Numbers = NDArray[np.float64]
ORDERS = 8


@dataclass(frozen=True)
class Contributions:
    """What the features add to the log-odds of some rows.

    Parameters
    ----------
    values
        float64 ``(n, p)``, in the order of the schema of ``rows``.
    base
        float64 ``(n,)``: the log-odds before any feature is known.
    method
        How they were found, in words.
    """

    rows: FeatureMatrix
    values: Numbers
    base: Numbers
    method: str

    @property
    def margin(self) -> Numbers:
        """Log-odds of each row ``(n,)``: its base and all contributions."""
        total: Numbers = self.base + self.values.sum(axis=1)
        return total

    def mean_size(self) -> dict[str, float]:
        """Mean absolute contribution by feature, largest first."""
        sizes = np.abs(self.values).mean(axis=0)
        names = self.rows.schema.names
        return {names[place]: float(sizes[place]) for place in np.argsort(-sizes, kind="stable")}


def contributions(
    model: Classifier, rows: FeatureMatrix, background: FeatureMatrix, seed: int = 0
) -> Contributions:
    """Explain the predictions of some rows, before any calibration.

    Parameters
    ----------
    background
        Rows that stand for not knowing a feature; trees do not need them.
    """
    exact = getattr(model, "contributions", None)
    if exact is not None:
        found = exact(rows)
        return Contributions(rows, found[:, :-1], found[:, -1], "TreeSHAP, exact")
    values, base = _sampled(getattr(model, "model", model), rows, background, seed)
    return Contributions(rows, values, base, f"Shapley values from {ORDERS} random orders")


def _sampled(
    model: Classifier, rows: FeatureMatrix, background: FeatureMatrix, seed: int
) -> tuple[Numbers, Numbers]:
    random = np.random.default_rng(seed)
    n, p = rows.values.shape
    values, base = np.zeros((n, p)), np.zeros(n)
    for _ in range(ORDERS):
        order = random.permutation(p)
        mixed = background.values[random.integers(0, len(background), n)].copy()
        before = _log_odds(model, mixed, rows)
        base += before / ORDERS
        for place in order:
            mixed[:, place] = rows.values[:, place]
            after = _log_odds(model, mixed, rows)
            values[:, place] += (after - before) / ORDERS
            before = after
    return values, base


def _log_odds(model: Classifier, values: NDArray[np.float32], like: FeatureMatrix) -> Numbers:
    matrix = FeatureMatrix(values, like.keys, like.times, like.schema)
    return logits_of(model.predict_proba(matrix))


MOST_ROWS = 1_000
"""Enough for an order of the features; all of a large validation part would take minutes."""


def permutation_importance(
    predict_proba: Callable[[FeatureMatrix], Values],
    features: FeatureMatrix,
    labels: Labels,
    seed: int,
) -> dict[str, float]:
    """Share of each feature in the log loss that shuffling features adds; they sum to 1.

    A feature whose shuffling adds nothing has 0; where none adds anything, all are equal.
    Features that derive from each other hide each other's importance.
    """
    random = np.random.default_rng(seed)
    few = random.permutation(len(labels))[:MOST_ROWS]
    values, known = features.values[few], labels[few]
    order = random.permutation(len(few))
    n, p = values.shape
    shuffled = np.repeat(values[np.newaxis], p + 1, axis=0)
    for place in range(p):
        shuffled[place, :, place] = values[order, place]
    keys, times = np.zeros(n * (p + 1), np.int64), np.zeros(n * (p + 1), "datetime64[us]")
    matrix = FeatureMatrix(shuffled.reshape(-1, p), keys, times, features.schema)
    answers = predict_proba(matrix).reshape(p + 1, n)
    losses = np.array([log_loss(known, answer) for answer in answers])
    added = np.maximum(losses[:p] - losses[p], 0)
    shares = added / added.sum() if added.any() else np.full(p, 1 / p)
    named = zip(features.schema.names, shares.tolist(), strict=True)
    return dict(sorted(named, key=lambda item: -item[1]))
