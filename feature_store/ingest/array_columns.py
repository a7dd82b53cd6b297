"""Columns of lists into numbers, one a place, with reasons for what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.cleaning import LARGEST_EXACT_INTEGER
from feature_store.definitions.validation import Reasons
from feature_store.errors import InvalidValue

if TYPE_CHECKING:
    import polars as pl


def parse_array(array: ArrayColumn, column: pl.Series, reasons: Reasons) -> NDArray[np.float32]:
    """A column of lists, or of texts that are JSON, as float32 ``(n, size)``.

    NaN is a missing list, and stands for what is refused.

    Examples
    --------
    >>> import polars as pl
    >>> reasons = {}
    >>> parse_array(ArrayColumn("face", 2, ""), pl.Series(["[1, 2]", "", "[1]"]), reasons)
    array([[ 1.,  2.],
           [nan, nan],
           [nan, nan]], dtype=float32)
    >>> reasons
    {2: 'face is a list of 1, expected a list of 2 numbers, or null'}
    """
    values = np.full((len(column), array.size), np.nan, dtype=np.float32)
    column = _lists(column)
    plain = _plain_rows(array, column, values)
    for row, value in zip(
        np.flatnonzero(~plain).tolist(), column.filter(~plain).to_list(), strict=True
    ):
        try:
            numbers = array.read(value)
        except InvalidValue as error:
            reasons.setdefault(row, str(error))
        else:
            if numbers is not None:
                values[row] = numbers
    return values


def _lists(column: pl.Series) -> pl.Series:
    """Arrays of PostgreSQL's numeric, which come as texts of a type of their own, as numbers."""
    import polars as pl

    if isinstance(column.dtype, pl.Array):
        return column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        return column
    inner = column.dtype.inner
    if isinstance(inner, pl.DataType) and (inner.is_numeric() or inner in (pl.String, pl.Boolean)):
        return column
    try:
        return column.list.eval(pl.element().ext.storage().cast(pl.Float64))
    except pl.exceptions.PolarsError:
        return column  # of times, say: each list is refused


def _plain_rows(
    array: ArrayColumn, column: pl.Series, values: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Fill in at once what is a list of the right length of ordinary numbers; tell which rows."""
    import polars as pl

    if not isinstance(column.dtype, pl.List) or not column.dtype.inner.is_numeric():
        return np.zeros(len(column), dtype=bool)
    right = (column.list.len() == array.size).fill_null(value=False).to_numpy()
    rows = np.flatnonzero(right)
    if not len(rows):
        return right
    flat = column.gather(rows).explode().cast(pl.Float64).fill_null(float("nan")).to_numpy()
    numbers = flat.reshape(len(rows), array.size)
    ordinary = (np.abs(numbers) <= LARGEST_EXACT_INTEGER).all(axis=1)
    values[rows[ordinary]] = numbers[ordinary]
    plain = np.zeros(len(column), dtype=bool)
    plain[rows[ordinary]] = True
    return plain
