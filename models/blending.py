"""How much each member of an ensemble counts: learned where no member has seen the rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from models.base import Labels, Values
from models.evaluation.metrics import SMALLEST

Logits = NDArray[np.float64]

NEWTON_STEPS = 20
"""It is quadratic near the end, and some 8 suffice from nothing."""
RIDGE = 1e-3
"""Against a sum of some rows: it decides where members say the same, and nothing else."""


@dataclass(frozen=True)
class Blend:
    """A weighted sum of the members' logits, and an offset.

    Weights are not negative. They need not sum to 1, and with the offset they calibrate the sum
    as Platt's method does.
    """

    weights: tuple[float, ...]
    offset: float

    def probabilities(self, logits: Logits) -> Values:
        """Probability of label 1, float32 ``(n,)``, of members' logits ``(n, m)``."""
        # Added up member by member: a product with the weights would differ by batch.
        total = np.full(len(logits), self.offset)
        for weight, column in zip(self.weights, logits.T, strict=True):
            total = total + weight * column
        answers: Values = (1 / (1 + np.exp(-total))).astype(np.float32)
        return answers


def logits_of(probabilities: Values) -> Logits:
    """Logits of probabilities, kept so far from 0 and 1 as float32 can tell them from these.

    Examples
    --------
    >>> float(logits_of(np.array([0.5], dtype=np.float32))[0])
    0.0
    """
    p = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(p) - np.log1p(-p)


def fit_blend(logits: Logits, labels: Labels) -> Blend:
    """Find the blend of logits ``(n, m)`` with the least log loss on labels ``(n,)``.

    The rows must be out of fold: logits of rows that a member learned from favour the member that
    learned most by heart.
    """
    n, m = logits.shape
    supports = [some for k in range(m + 1) for some in combinations(range(m), k)]
    found: list[tuple[float, Blend]] = []
    for some in supports:  # the best non-negative blend is the best of the members that it uses
        weights, loss = _unbounded(np.column_stack([logits[:, some], np.ones(n)]), labels)
        if (weights[:-1] >= 0).all():
            spread = np.zeros(m)
            spread[list(some)] = weights[:-1]
            found.append((loss, Blend(tuple(spread.tolist()), float(weights[-1]))))
    return min(found, key=lambda each: each[0])[1]


def _unbounded(inputs: Logits, labels: Labels) -> tuple[Logits, float]:
    """Logistic regression by Newton's method: weights, and the mean log loss that they reach."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(inputs @ weights)))
        curvature = (inputs.T * (p * (1 - p))) @ inputs + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, inputs.T @ (p - labels) + RIDGE * weights)
        weights = weights - step
    total = inputs @ weights
    return weights, float(np.mean(np.logaddexp(0, total) - labels * total))
