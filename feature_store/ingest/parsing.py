"""Columns of texts or typed values into numbers, codes, keys, times and labels, with reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.cleaning import (
    LARGEST_EXACT_INTEGER,
    UNSEEN,
    WHITE_SPACE,
    Cleaning,
    becomes_another,
)
from feature_store.definitions.entity import Entity, whole_number
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import FeatureDefinition
from feature_store.definitions.validation import Reasons, check_column
from feature_store.errors import InvalidValue

if TYPE_CHECKING:
    import polars as pl

NO_TIME = np.datetime64("1970-01-01", "us")
"""Stands where a row is refused for its time."""


def clean(column: pl.Series, marks: Collection[str]) -> pl.Series:
    """The column with null for what is missing; texts are stripped, numbers stay what they are.

    Parameters
    ----------
    marks
        Texts that stand for a missing value; see `Cleaning`, whose columnar form this is.
    """
    import polars as pl

    cleaning = Cleaning((), marks)
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        shown = [None if value is None else str(value) for value in column.to_list()]
        column = pl.Series(column.name, shown, dtype=pl.String)
    if column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.Boolean:
        numbers = column.fill_nan(None) if column.dtype.is_float() else column
        stand_for_missing = list(cleaning.mark_numbers) if column.dtype.is_numeric() else []
        if not stand_for_missing:
            return numbers
        return numbers.set(numbers.cast(pl.Float64).is_in(stand_for_missing), None)
    texts = column.cast(pl.String).str.strip_chars(WHITE_SPACE)
    return texts.set(texts.str.to_lowercase().is_in(list(cleaning.marks)), None)


def parse_numbers(
    feature: FeatureDefinition, column: pl.Series, reasons: Reasons
) -> NDArray[np.float32]:
    """A cleaned column as float32 ``(n,)``; NaN is missing, and stands for what is refused."""
    is_boolean = feature.kind == "boolean"
    read: Callable[[Any], float] = feature.cleaning.truth if is_boolean else float
    expected = "true or false" if is_boolean else "a number"
    parsed = _parsed(column, read, np.nan, feature.name, expected, reasons)
    for row, why in check_column(feature, parsed).items():
        reasons.setdefault(row, f"{feature.name} is {column[row]}, {why}")
    for row in np.flatnonzero(np.isnan(parsed) & column.is_not_null().to_numpy()).tolist():
        reasons.setdefault(row, f"{feature.name} is '{column[row]}', expected {expected}")
    with np.errstate(over="ignore"):
        stored = parsed.astype(np.float32)
    if feature.is_cast:
        return stored  # to the digit it is an exact column
    # Of fractions digits are rounded; a whole number must not become another one.
    large = np.flatnonzero(np.abs(parsed) > LARGEST_EXACT_INTEGER)
    for row, value in zip(large.tolist(), column.gather(large), strict=True):
        if row not in reasons and becomes_another(value):
            why = f"{feature.name} is {value}, expected a whole number that a float32 holds"
            reasons[row] = why
    return stored


def parse_categories(
    feature: FeatureDefinition, column: pl.Series
) -> tuple[NDArray[np.int64], Counter[str]]:
    """A cleaned column as codes ``(n,)``, and how often each unseen word came."""
    feature.require_words()
    codes, counts = _encode(column, feature.cleaning)
    return codes, Counter({str(word): n for word, (code, n) in counts.items() if code == UNSEEN})


def parse_exact(column: ExactColumn, cleaned: pl.Series, reasons: Reasons) -> NDArray[np.object_]:
    """A cleaned column in its own type, objects ``(n,)``; None is missing, or refused."""
    values = np.full(len(cleaned), None, dtype=object)
    for row, value in enumerate(cleaned.to_list()):
        if value is not None:
            try:
                values[row] = column.read(value)
            except InvalidValue as error:
                reasons.setdefault(row, str(error))
    return values


@dataclass(frozen=True)
class ParsedKeys:
    """Keys of many rows.

    Parameters
    ----------
    identities
        int64 ``(n,)``; 0 stands for what is refused.
    texts
        Each key as one text ``(n,)``; None of entities whose keys are whole numbers.
    """

    identities: NDArray[np.int64]
    texts: NDArray[np.object_] | None = None

    def rows(self, which: NDArray[np.bool_]) -> ParsedKeys:
        """Return the chosen ones."""
        texts = None if self.texts is None else self.texts[which]
        return ParsedKeys(self.identities[which], texts)


def parse_keys(entity: Entity, columns: Sequence[pl.Series], reasons: Reasons) -> ParsedKeys:
    """Cleaned columns, one a part of the key, as identities; nothing is missing."""
    import polars as pl

    if entity.is_whole:
        [column], [part] = columns, entity.parts
        # All at once: `Entity.read` one by one says the same.
        parsed = _parsed(column, whole_number, 0, column.name, part.expected, reasons)
        _refuse_missing(column.name, column, part.expected, reasons)
        return ParsedKeys(parsed)
    texts = np.full(len(columns[0]), "", dtype=object)
    if len(columns) == 1 and columns[0].dtype == pl.String and not columns[0].null_count():
        with suppress(InvalidValue):
            texts[:] = entity.texts_of(columns[0].to_list())
            return ParsedKeys(entity.identities(texts), texts)
    for row, values in enumerate(zip(*(column.to_list() for column in columns), strict=True)):
        try:
            texts[row] = entity.text(entity.read(values if len(values) > 1 else values[0]))
        except InvalidValue as error:
            reasons.setdefault(row, str(error))
    identities = entity.identities(texts.tolist())
    identities[texts == ""] = 0
    return ParsedKeys(identities, texts)


def parse_times(name: str, column: pl.Series, reasons: Reasons) -> NDArray[np.datetime64]:
    """A cleaned column as datetime64[us] ``(n,)``; times without a zone are in UTC.

    1970 stands for what is refused; nothing is missing.
    """
    import polars as pl

    expected = "a time such as 2026-01-05T10:00:00Z"
    _refuse_missing(name, column, expected, reasons)
    if column.dtype.is_temporal():
        moments = column.cast(pl.Datetime("us"))
        if getattr(column.dtype, "time_zone", None):
            moments = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return np.where(column.is_null().to_numpy(), NO_TIME, moments.to_numpy())
    times = np.full(len(column), NO_TIME)
    for row, text in enumerate(column.cast(pl.String).to_list()):
        if text is not None:
            times[row] = _or_refused(_moment, NO_TIME, row, text, name, expected, reasons)
    return times


def parse_labels(
    name: str, column: pl.Series, values: Mapping[str, int], reasons: Reasons
) -> NDArray[np.int8]:
    """A cleaned column as int8 ``(n,)``; -1 stands for what is refused, and nothing is missing."""
    codes, _ = _encode(column, Cleaning(tuple(values), ()))
    labels = np.array([-1, -1, *values.values()], dtype=np.int8).take(codes)
    expected = ", ".join(values)
    for row in np.flatnonzero(labels < 0).tolist():
        found = "missing" if column[row] is None else f"'{column[row]}'"
        reasons.setdefault(row, f"{name} is {found}, expected one of {expected}")
    return labels


def _encode(
    column: pl.Series, cleaning: Cleaning
) -> tuple[NDArray[np.int64], dict[object, tuple[int, int]]]:
    """Codes ``(n,)`` of a cleaned column; each distinct value with its code, and how often it came.

    Each distinct value is read by the very function that reads a single one.
    """
    import polars as pl

    is_typed = column.dtype.is_numeric() or column.dtype == pl.Boolean
    words = column if is_typed else column.cast(pl.String)
    counted = words.value_counts(name="n of rows")
    values, counts = counted.get_columns()
    codes = [cleaning.code(value) for value in values]
    found = words.replace_strict(values, codes, return_dtype=pl.Int64)
    known = zip(values, codes, counts, strict=True)
    return found.to_numpy(), {value: (code, n) for value, code, n in known}


def _parsed(
    column: pl.Series,
    parse: Callable[[Any], Any],
    absent: float,
    name: str,
    expected: str,
    reasons: Reasons,
) -> NDArray[Any]:
    """Numbers of a cleaned column: all at once, and one by one where that fails."""
    import polars as pl

    kind = pl.Int64 if parse is whole_number else pl.Float64
    # A cast would cut fractions off keys, and make numbers of times.
    is_cut = column.dtype.is_temporal() or (
        kind == pl.Int64 and (column.dtype.is_float() or column.dtype == pl.Boolean)
    )
    numbers = column.clear(len(column)).cast(kind) if is_cut else column.cast(kind, strict=False)
    parsed = numbers.fill_null(absent).to_numpy(writable=True)
    for row in (numbers.is_null() & column.is_not_null()).arg_true().to_list():
        parsed[row] = _or_refused(parse, absent, row, column[row], name, expected, reasons)
    return parsed


def _or_refused(
    parse: Callable[[Any], Any],
    absent: Any,
    row: int,
    value: Any,
    name: str,
    expected: str,
    reasons: Reasons,
) -> Any:
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError):
        reasons.setdefault(row, f"{name} is '{value}', expected {expected}")
        return absent


def _refuse_missing(name: str, column: pl.Series, expected: str, reasons: Reasons) -> None:
    for row in column.is_null().arg_true().to_list():
        reasons.setdefault(row, f"{name} is missing, expected {expected}")


def _moment(text: str) -> np.datetime64:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "us")
