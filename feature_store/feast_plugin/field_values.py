"""One field of a view: what is stored of it as Feast's values and as Python's, and back.

Feast's messages hold times in whole seconds. A time is cut there, and kept whole in what Python
clients see; see `ExactTimes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from feast.protos.feast.types.Value_pb2 import FloatList, Value
from feast.type_map import NULL_TIMESTAMP_INT_VALUE
from numpy.typing import NDArray

from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.cleaning import LARGEST_WHOLE
from feature_store.definitions.exact import (
    EPOCH,
    EXPECTED,
    ExactColumn,
    ExactType,
    ExactValue,
)
from feature_store.definitions.schema import FIRST_KNOWN, FeatureDefinition
from feature_store.errors import InvalidValue

NULL = Value()
NUMBER_LISTS = {"float_list_val", "double_list_val", "int32_list_val", "int64_list_val"}
SECOND = timedelta(seconds=1)
MESSAGE_KINDS: dict[ExactType, str] = {
    **{"int64": "int64_val", "float64": "double_val"},
    **{"string": "string_val", "timestamp": "unix_timestamp_val"},
}
"""Which of Feast's values an exact column is."""


@dataclass(frozen=True)
class FieldReader:
    """Reads one field of stored rows.

    Parameters
    ----------
    value
        Makes Feast's value of what is stored.
    column
        Makes Python's values of what is stored in many rows; None: missing.
    """

    value: Callable[[Any], Value]
    column: Callable[[list[Any]], list[Any]]


def feature_reader(feature: FeatureDefinition) -> FieldReader:
    """Reads a feature of vectors: words for codes, null for NaN."""
    if feature.kind == "category":
        words = [None] * FIRST_KNOWN + list(feature.categories)
        values = [NULL] * FIRST_KNOWN + [Value(string_val=word) for word in feature.categories]
        return FieldReader(
            lambda code: values[int(code)], lambda codes: [words[int(code)] for code in codes]
        )
    if feature.kind == "integer":
        return FieldReader(
            lambda x: NULL if x != x else Value(int64_val=int(x)),
            lambda numbers: [None if x != x else int(x) for x in numbers],
        )
    if feature.kind == "boolean":
        return FieldReader(
            lambda x: NULL if x != x else Value(bool_val=bool(x)),
            lambda numbers: [None if x != x else bool(x) for x in numbers],
        )
    return FieldReader(
        lambda x: NULL if x != x else Value(float_val=x),
        lambda numbers: [None if x != x else x for x in numbers],
    )


def array_reader() -> FieldReader:
    """Reads an array, which is a list of numbers or None."""
    return FieldReader(
        lambda numbers: NULL if numbers is None else Value(float_list_val=FloatList(val=numbers)),
        list,
    )


def read_array(array: ArrayColumn, kind: str, value: Any) -> tuple[float, ...] | None:
    """The numbers of an array out of one of Feast's values.

    Raises
    ------
    InvalidValue
        If it is no list of numbers, or one of another length.
    """
    if kind not in NUMBER_LISTS:
        raise InvalidValue(f"{array.name} is '{value}' ({kind}), expected {array.expected}")
    return array.read(list(value.val))


def exact_reader(column: ExactColumn) -> FieldReader:
    """Reads an exact column; Feast's value of a time has whole seconds.

    Examples
    --------
    >>> exact_reader(ExactColumn("account", "int64", "")).value(9007199254740993).int64_val
    9007199254740993
    """
    kind = MESSAGE_KINDS[column.type]
    if column.type == "timestamp":
        return FieldReader(
            lambda time: NULL if time is None else Value(unix_timestamp_val=seconds_of(time)), list
        )
    return FieldReader(lambda value: NULL if value is None else Value(**{kind: value}), list)


def seconds_of(time: datetime) -> int:
    """Whole seconds since 1970, of an earlier time too those that have begun.

    Examples
    --------
    >>> seconds_of(EPOCH - timedelta(microseconds=1))
    -1
    """
    return (time - EPOCH) // SECOND


def read_exact(column: ExactColumn, kind: str, value: Any) -> ExactValue:
    """The value of an exact column out of one of Feast's, of the kind ``int64_val`` and so on.

    Raises
    ------
    InvalidValue
        If it is of another kind, or none that the column can hold.

    Examples
    --------
    >>> read_exact(ExactColumn("account", "int64", ""), "string_val", "7")
    Traceback (most recent call last):
    ...
    feature_store.errors.InvalidValue: account is '7' (string_val), expected a whole number ...
    """
    if kind != MESSAGE_KINDS[column.type]:
        raise InvalidValue(
            f"{column.name} is '{value}' ({kind}), expected {EXPECTED[column.type]} "
            f"({MESSAGE_KINDS[column.type]})"
        )
    if column.type != "timestamp":
        return column.read(value)
    if value == NULL_TIMESTAMP_INT_VALUE:
        return None
    try:
        return EPOCH + timedelta(seconds=value)
    except OverflowError:
        raise InvalidValue(
            f"{column.name} is {value} seconds after 1970, expected {EXPECTED[column.type]}"
        ) from None


def as_model_takes(feature: FeatureDefinition, value: ExactValue) -> float:
    """What a model takes of an exact column: the nearest float32; NaN is missing.

    Raises
    ------
    InvalidValue
        If no float32 is near.
    """
    if value is None:
        return np.nan
    low, high = feature.limits
    if not low <= value <= high:  # type: ignore[operator]
        raise InvalidValue(f"{feature.name} is '{value}', expected {low:.10g} to {high:.10g}")
    return float(value)  # type: ignore[arg-type]


def maybe_rounded(values: Sequence[int | None]) -> int | None:
    """The first whole number of a column ``(n,)`` that Feast may have rounded, if there is one.

    A number that no float64 holds tells that the column has been none.

    Examples
    --------
    >>> maybe_rounded([2**53, None]), maybe_rounded([2**53, 2**53 + 1, None])
    (9007199254740992, None)
    """
    if None not in values:
        return None
    large = [value for value in values if value is not None and abs(value) >= LARGEST_WHOLE]
    if not large or any(int(float(value)) != value for value in large):
        return None
    return large[0]


def refuse_lost_digits(columns: Sequence[ExactColumn], values: NDArray[np.object_]) -> None:
    """Refuse rows ``(n, k)`` of messages whose whole numbers Feast may have rounded.

    Feast makes float64 of a column of whole numbers in which some are missing, before it makes
    messages: 9007199254740993 arrives as 9007199254740992.

    Raises
    ------
    InvalidValue
        If a column has a value beyond 2**53, and a missing one, and may have been a float64.
    """
    for place, column in enumerate(columns):
        if column.type != "int64":
            continue
        rounded = maybe_rounded(values[:, place].tolist())
        if rounded is not None:
            raise InvalidValue(
                f"{column.name} is {rounded} in one of these rows and missing in another: Feast "
                "hands such columns over as float64, in which whole numbers beyond 2**53 lose "
                "digits. Write the rows without a value apart, or materialize with "
                "PackedMaterializationEngine."
            )
