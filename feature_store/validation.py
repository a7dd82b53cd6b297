"""Checks derived from the feature definitions: raw rows before, features after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import ValidationFailed
from feature_store.registry import FIRST_KNOWN, UNSEEN, FeatureDefinition, FeatureSchema

Reasons = dict[int, str]
"""Row number (0-based) to why it is refused: the first reason found, in column order."""


def parse_numbers(
    feature: FeatureDefinition, texts: Sequence[str | None], reasons: Reasons
) -> NDArray[np.float32]:
    """Parse a column of texts into float32 ``(n,)``; None is missing, NaN what is refused."""
    parsed = np.full(len(texts), np.nan)
    try:
        parsed[:] = [np.nan if text is None else float(text) for text in texts]
    except ValueError:
        for row, text in enumerate(texts):
            parsed[row] = _number_or_refuse(feature, row, text, reasons)
    for row, why in check_column(feature, parsed).items():
        reasons.setdefault(row, f"{feature.name} is {texts[row]}, {why}")
    given_as_nan = np.isnan(parsed) & np.array([text is not None for text in texts], dtype=bool)
    for row in np.flatnonzero(given_as_nan).tolist():
        reasons.setdefault(row, f"{feature.name} is '{texts[row]}', expected a number")
    return parsed.astype(np.float32)


def parse_categories(
    feature: FeatureDefinition, texts: Sequence[str | None]
) -> tuple[NDArray[np.int64], Counter[str]]:
    """Encode a column of texts into codes ``(n,)`` and count the words that are unseen."""
    encoded = np.array([feature.encode(text) for text in texts], dtype=np.int64)
    unseen = Counter(str(texts[row]) for row in np.flatnonzero(encoded == UNSEEN).tolist())
    return encoded, unseen


def check_column(feature: FeatureDefinition, column: NDArray[np.floating]) -> Reasons:
    """Reasons for the values of one column ``(n,)`` that its definition does not allow."""
    if feature.kind == "category":
        last = FIRST_KNOWN + len(feature.categories) - 1
        bad = ~((column >= 0) & (column <= last) & (column == np.floor(column)))
        return dict.fromkeys(np.flatnonzero(bad).tolist(), f"expected a code from 0 to {last}")
    reasons: Reasons = {}
    given = ~np.isnan(column)
    if feature.kind == "integer":
        broken = given & (column != np.floor(column))
        reasons |= dict.fromkeys(np.flatnonzero(broken).tolist(), "expected a whole number")
    low, high = feature.valid_range or (-np.inf, np.inf)
    outside = given & ~((column >= low) & (column <= high) & np.isfinite(column))
    unit = f" {feature.unit}" if feature.unit else ""
    expected = f"expected {low:g} to {high:g}{unit}"
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


def refuse_too_many(reasons: Mapping[int, str], rows: int, max_bad_share: float) -> None:
    """Raise when more than the allowed share of rows is bad.

    Raises
    ------
    ValidationFailed
        With the share and the commonest reasons.
    """
    if len(reasons) <= max_bad_share * rows:
        return
    # "age is -3, expected …" and "age is -4, expected …" are one reason.
    kinds = Counter(
        f"{why.split(' is ')[0]}: {why.rsplit(', ', 1)[-1]}" for why in reasons.values()
    )
    common = "; ".join(f"{why} ({count:,} rows)" for why, count in kinds.most_common(3))
    first = min(reasons)
    raise ValidationFailed(
        f"{len(reasons):,} of {rows:,} rows are bad ({len(reasons) / rows:.1%}), at most "
        f"{max_bad_share:.1%} are allowed; nothing was written. Reasons: {common}. "
        f"First: row {first + 1}, {reasons[first]}. Mend the source, or raise 'max_bad_share'."
    )


def _number_or_refuse(
    feature: FeatureDefinition, row: int, text: str | None, reasons: Reasons
) -> float:
    try:
        return np.nan if text is None else float(text)
    except ValueError:
        reasons.setdefault(row, f"{feature.name} is '{text}', expected a number")
        return np.nan
