"""How much each member of an ensemble counts: learned where no member has seen the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.base import Labels, Values
from models.evaluation import SMALLEST

Logits = NDArray[np.float64]


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
        return (1 / (1 + np.exp(-total))).astype(np.float32)


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
    from scipy.optimize import minimize

    n, m = logits.shape
    inputs = np.column_stack([logits, np.ones(n)])

    def loss(weights: Logits) -> tuple[float, Logits]:
        total = inputs @ weights
        value = np.mean(np.logaddexp(0, total) - labels * total)
        return float(value), inputs.T @ (1 / (1 + np.exp(-total)) - labels) / n

    start = np.append(np.full(m, 1 / m), 0.0)
    bounds = [(0, None)] * m + [(None, None)]
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return Blend(tuple(float(weight) for weight in found[:m]), float(found[m]))
