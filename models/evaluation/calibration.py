"""Calibration: how far probabilities are from frequencies, and a curve that sets them right.

The curve is piecewise linear, given by its knots. So it is the same arithmetic in NumPy and in
ONNX, to the bit: a search for the piece, one subtraction, one product, one sum. A sigmoid or a
step would not be: the first rounds differently by batch, the second makes a jump of a rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.base import Labels, Values, refuse_one_class
from models.evaluation import intervals
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import Numbers

Method = Literal["isotonic", "platt"]
FILE = "calibration.json"
BINS = 10
PRIOR_ROWS = 10.0
"""Each step of an isotonic curve is drawn to what the model said by as much as so many rows."""
STEEPEST = 5.0
"""Steps that would rise faster are joined: a curve multiplies the difference of two engines."""
PLATT_KNOTS = 129


@dataclass(frozen=True)
class Bin:
    """Test rows with like probabilities: the mean of these, and how many were 1."""

    predicted: float
    observed: Estimate
    n: int


@dataclass(frozen=True)
class Calibration:
    """A curve from the model's probabilities to better ones.

    Parameters
    ----------
    x, y
        Its knots, float32 ``(k,)``; the first is (0, 0) and the last (1, 1).

    Examples
    --------
    >>> half = Calibration("isotonic", np.float32([0, 0.5, 1]), np.float32([0, 0.25, 1]))
    >>> half(np.float32([0.0, 0.5, 0.75, 1.0])).tolist()
    [0.0, 0.25, 0.625, 1.0]
    """

    method: Method
    x: Values
    y: Values

    @property
    def slope(self) -> Values:
        """The rise of each piece, float32 ``(k - 1,)``."""
        return (np.diff(self.y) / np.diff(self.x)).astype(np.float32)

    def __call__(self, probabilities: Values) -> Values:
        """Set probabilities ``(n,)`` right."""
        piece = np.clip(
            np.searchsorted(self.x, probabilities, side="right") - 1, 0, len(self.x) - 2
        )
        steps = self.slope[piece] * (probabilities - self.x[piece])
        right: Values = np.clip(self.y[piece] + steps, np.float32(0), np.float32(1))
        return right

    def to_json(self) -> dict[str, Any]:
        """Give the curve as JSON values."""
        return {"method": self.method, "x": self.x.tolist(), "y": self.y.tolist()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` gave."""
        x, y = (np.array(stored[name], dtype=np.float32) for name in ("x", "y"))
        return cls(stored["method"], x, y)

    @classmethod
    def read_beside(cls, model: Path) -> Calibration | None:
        """The curve that belongs to a native model, if it has one; check its hash first."""
        path = model.with_name(FILE)
        return cls.from_json(json.loads(path.read_bytes())) if path.exists() else None


def fit_calibration(method: Method, labels: Labels, probabilities: Values) -> Calibration:
    """Fit a curve on validation rows.

    Raises
    ------
    TrainingRefused
        If the labels are all equal.
    """
    refuse_one_class(labels, "Calibration")
    x, y = {"isotonic": _isotonic, "platt": _platt}[method](labels, probabilities.astype(float))
    inside = (x > 0) & (x < 1)
    ends = np.array([0.0]), np.array([1.0])
    x, y = (np.concatenate([ends[0], v[inside], ends[1]]) for v in (x, y))
    return Calibration(method, *_gentle(x, y))


def reliability(labels: Labels, probabilities: Values, bins: int = BINS) -> tuple[Bin, ...]:
    """Predicted against observed in equal shares of the rows, by falling probability."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    return tuple(
        Bin(
            float(probabilities[rows].mean()),
            intervals.share(int(labels[rows].sum()), len(rows)),
            len(rows),
        )
        for rows in parts
        if len(rows)
    )


def _isotonic(labels: Labels, probabilities: Numbers) -> tuple[Numbers, Numbers]:
    """Means of the steps of the isotonic regression: what the model said, and what was."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression().fit(probabilities, labels).predict(probabilities)
    steps, member = np.unique(fitted, return_inverse=True)
    n = np.bincount(member)
    x = np.bincount(member, probabilities) / n
    return x, np.maximum.accumulate((steps * n + x * PRIOR_ROWS) / (n + PRIOR_ROWS))


def _platt(labels: Labels, probabilities: Numbers) -> tuple[Numbers, Numbers]:
    """A sigmoid of the log-odds (Platt 1999), read off at knots that are even in log-odds."""
    from sklearn.linear_model import LogisticRegression

    odds = np.log(np.clip(probabilities, 1e-6, 1 - 1e-6))
    odds -= np.log1p(-np.clip(probabilities, 1e-6, 1 - 1e-6))
    fitted = LogisticRegression(C=1e6).fit(odds[:, None], labels)
    at = np.linspace(-9, 9, PLATT_KNOTS)
    right = fitted.coef_[0, 0] * at + fitted.intercept_[0]
    return 1 / (1 + np.exp(-at)), 1 / (1 + np.exp(-right))


def _gentle(x: Numbers, y: Numbers) -> tuple[Values, Values]:
    """Leave out knots until no piece rises too steeply, or runs backwards in float32."""
    kept_x, kept_y = [0.0], [0.0]
    for at, right in zip(x[1:-1], y[1:-1], strict=True):
        is_after = at - kept_x[-1] > 1e-6 and right > kept_y[-1]
        if is_after and right - kept_y[-1] <= STEEPEST * (at - kept_x[-1]):
            kept_x.append(float(at))
            kept_y.append(float(right))
    while len(kept_x) > 1 and 1 - kept_y[-1] > STEEPEST * (1 - kept_x[-1]):
        del kept_x[-1], kept_y[-1]
    knots = np.array([[*kept_x, 1.0], [*kept_y, 1.0]], dtype=np.float32)
    return knots[0], knots[1]
