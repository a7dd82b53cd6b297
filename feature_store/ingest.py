"""From texts in files to encoded columns: the raw table with keys, event times and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.settings import EventTimeConfig, SourceConfig
from feature_store.engine import Engine, FeatureMatrix
from feature_store.errors import SourceError
from feature_store.feature_view import FeatureView
from feature_store.offline_store import Labels, QuarantinedRow
from feature_store.sources.files import RawRow
from feature_store.validation import Reasons, parse_categories, parse_numbers

HASH_MULTIPLIER = 2_654_435_761
"""Knuth's multiplicative hash, 2**32 over the golden ratio: spreads consecutive keys evenly."""


@dataclass(frozen=True)
class RawTable:
    """The raw table, encoded.

    Parameters
    ----------
    rows
        The rows as they were read.
    keys, times
        int64 and datetime64[us] ``(n,)``.
    columns
        Raw column name to float32 numbers or int64 codes ``(n,)``.
    labels
        int8 ``(n,)``.
    reasons
        Why rows are refused, by place.
    unseen
        Words outside their vocabulary, as ``column=word``, with how often they came.
    """

    rows: Sequence[RawRow]
    keys: NDArray[np.int64]
    times: NDArray[np.datetime64]
    columns: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int8]
    reasons: Reasons
    unseen: Counter[str]

    def __len__(self) -> int:
        return len(self.rows)


def parse(
    rows: Sequence[RawRow], view: FeatureView, source: SourceConfig, event_time: EventTimeConfig
) -> RawTable:
    """Split texts into columns, parse and check them; keys count rows from 1 in file order.

    Raises
    ------
    SourceError
        If there are no rows, or the settings name no column for a raw feature or the label.
    """
    wanted = [*(f.name for f in view.raw_features), source.label_column]
    absent = [name for name in wanted if name not in source.columns]
    if absent or not rows:
        problem = f"no column '{absent[0]}'" if absent else "no rows"
        raise SourceError(
            f"The source has {problem}; expected the columns {', '.join(wanted)}. See "
            "'source' in the feature settings."
        )
    reasons: Reasons = {}
    texts = _columns(rows, source, reasons)
    columns: dict[str, NDArray[Any]] = {}
    unseen: Counter[str] = Counter()
    for feature in view.raw_features:
        if feature.kind == "category":
            columns[feature.name], words = parse_categories(feature, texts[feature.name])
            unseen.update({f"{feature.name}={word}": count for word, count in words.items()})
        else:
            columns[feature.name] = parse_numbers(feature, texts[feature.name], reasons)
    labels = _labels(texts[source.label_column], source, reasons)
    keys = np.arange(1, len(rows) + 1, dtype=np.int64)
    return RawTable(rows, keys, event_times(keys, event_time), columns, labels, reasons, unseen)


def engineer(table: RawTable, engine: Engine) -> FeatureMatrix:
    """Compute the features of every row of a raw table."""
    values = engine.table(table.columns)
    return FeatureMatrix(values, table.keys, table.times, engine.schema)


def good_rows(
    table: RawTable, matrix: FeatureMatrix, reasons: Reasons
) -> tuple[FeatureMatrix, Labels]:
    """Features and labels of the rows that are not refused."""
    good = np.ones(len(table), dtype=bool)
    good[list(reasons)] = False
    return matrix.rows(good), Labels(table.keys[good], table.labels[good], table.times[good])


def quarantined_rows(
    table: RawTable, source: SourceConfig, reasons: Reasons
) -> list[QuarantinedRow]:
    """The refused rows as they were read, with their reasons."""
    refused = []
    for place, reason in sorted(reasons.items()):
        row = table.rows[place]
        raw = dict(zip(source.columns, row.texts, strict=False))
        refused.append(QuarantinedRow(row.source, row.line_number, reason, raw))
    return refused


def findings(table: RawTable, reasons: Reasons) -> list[str]:
    """What a person should know about the rows: one line each, none when all is well."""
    lines = []
    if reasons:
        first = min(reasons)
        lines.append(
            f"{len(reasons):,} rows are quarantined; the first is {table.rows[first].source} "
            f"line {table.rows[first].line_number}: {reasons[first]}"
        )
    for word, count in table.unseen.most_common(5):
        lines.append(f"{count:,} rows hold the unseen category {word}; it gets the code of unseen")
    return lines


def event_times(keys: NDArray[np.int64], config: EventTimeConfig) -> NDArray[np.datetime64]:
    """Event times ``(n,)`` of rows without a clock: a fixed function of the key.

    ``start + (end - start) × ((key × 2654435761) mod 2**32) / 2**32``, cut to whole seconds; so
    times spread evenly over ``[start, end)`` and never change between runs.
    """
    start = np.datetime64(config.start.replace(tzinfo=None), "s")
    seconds = int((config.end - config.start).total_seconds())
    hashed = (keys.astype(np.uint64) * np.uint64(HASH_MULTIPLIER)) % np.uint64(2**32)
    offset = (hashed * np.uint64(seconds)) >> np.uint64(32)
    return (start + offset.astype("timedelta64[s]")).astype("datetime64[us]")


def _columns(
    rows: Sequence[RawRow], source: SourceConfig, reasons: Reasons
) -> dict[str, list[str | None]]:
    width = len(source.columns)
    whole: list[Sequence[str]] = []
    for place, row in enumerate(rows):
        if len(row.texts) == width:
            whole.append(row.texts)
        else:
            reasons[place] = f"the row has {len(row.texts)} fields, expected {width}"
            whole.append([source.missing] * width)
    absent = {source.missing, ""}
    return {
        name: [None if text in absent else text for text in column]
        for name, column in zip(source.columns, zip(*whole, strict=True), strict=True)
    }


def _labels(
    texts: Sequence[str | None], source: SourceConfig, reasons: Reasons
) -> NDArray[np.int8]:
    labels = np.array([source.label_values.get(text or "", -1) for text in texts], dtype=np.int8)
    expected = ", ".join(source.label_values)
    for place in np.flatnonzero(labels < 0).tolist():
        found = "missing" if texts[place] is None else f"'{texts[place]}'"
        reasons.setdefault(place, f"{source.label_column} is {found}, expected one of {expected}")
    return labels
