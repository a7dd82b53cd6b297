"""What changes set of exact columns, to the digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.composed import Encoded
from feature_store.definitions.exact import ExactColumn


def exact_patches(
    columns: Sequence[ExactColumn], changes: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """The values that changes of attributes set; what is no exact column is passed over.

    Returns
    -------
    values, are_set
        ``(n, k)``: in the types of the columns, None for missing, and which of them are set.

    Examples
    --------
    >>> values, are_set = exact_patches(
    ...     [ExactColumn("account", "int64", "")], [{"account": "9007199254740993"}, {"age": 3}])
    >>> values.tolist(), are_set.tolist()
    ([[9007199254740993], [None]], [[True], [False]])
    """
    values = np.full((len(changes), len(columns)), None, dtype=object)
    are_set = np.zeros(values.shape, dtype=bool)
    for row, attributes in enumerate(changes):
        for place, column in enumerate(columns):
            if column.name in attributes:
                values[row, place] = column.read(attributes[column.name])
                are_set[row, place] = True
    return values, are_set


def rounded(
    columns: Sequence[ExactColumn], changes: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Changes of attributes, with the nearest float32 of those that a model takes.

    Examples
    --------
    >>> rounded([ExactColumn("balance", "float64", "")], [{"balance": 16_777_217, "age": 3}])
    [{'balance': 16777216.0, 'age': 3}]
    """
    taken = {column.name: column for column in columns if column.type == "float64"}
    if not taken:
        return changes
    return [
        {
            name: _nearest(taken[name], value) if name in taken else value
            for name, value in attributes.items()
        }
        for attributes in changes
    ]


def _nearest(column: ExactColumn, value: object) -> float | None:
    number = column.read(value)
    return Encoded(np.float32(number)) if isinstance(number, float) else None
