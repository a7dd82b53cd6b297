"""How much a model loses when a feature is shuffled among rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from feature_store.definitions.engine import FeatureMatrix
from models.base import Features, Labels, Values
from models.evaluation.metrics import log_loss

MOST_ROWS = 1_000
"""Enough for an order of the features; all of a large validation part would take minutes."""


def permutation_importance(
    predict_proba: Callable[[Features], Values], features: FeatureMatrix, labels: Labels, seed: int
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
