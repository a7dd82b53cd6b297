"""Checks derived from the feature definitions: raw rows before, features after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FeatureDefinition, FeatureSchema

Reasons = dict[int, str]
"""Row number (0-based) to why it is refused: the first reason found, in column order."""


def check_column(feature: FeatureDefinition, column: NDArray[np.floating]) -> Reasons:
    """Reasons for the values of one column ``(n,)`` that its definition does not allow."""
    if feature.kind == "category":
        last = feature.codes_end - 1
        bad = ~((column >= 0) & (column <= last) & (column == np.floor(column)))
        return dict.fromkeys(np.flatnonzero(bad).tolist(), f"expected a code from 0 to {last}")
    reasons: Reasons = {}
    given = ~np.isnan(column)
    if feature.kind in ("integer", "boolean"):
        broken = given & (column != np.floor(column))
        reasons |= dict.fromkeys(np.flatnonzero(broken).tolist(), "expected a whole number")
    low, high = feature.limits
    outside = given & ~((column >= low) & (column <= high) & np.isfinite(column))
    unit = f" {feature.unit}" if feature.unit else ""
    expected = f"expected {low:.10g} to {high:.10g}{unit}"
    return dict.fromkeys(np.flatnonzero(outside).tolist(), expected) | reasons


def check_features(
    schema: FeatureSchema, values: NDArray[np.float32]
) -> tuple[Reasons, Mapping[str, int]]:
    """Check computed features ``(n, p)``.

    Returns
    -------
    reasons, failures
        Why rows are refused, and how many rows fail by feature (features without any are absent).
    """
    reasons: Reasons = {}
    failures: dict[str, int] = {}
    for place, feature in enumerate(schema.features):
        column = values[:, place]
        found = check_column(feature, column)
        if found:
            failures[feature.name] = len(found)
        for row, why in found.items():
            reasons.setdefault(row, f"{feature.name} is {column[row]:g}, {why}")
    return reasons, failures
