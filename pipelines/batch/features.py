"""From rows of an input to feature vectors: taken as they are, computed, or looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.cleaning import LARGEST_EXACT_INTEGER, becomes_another
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.exact import moments
from feature_store.definitions.schema import (
    MISSING,
    UNSEEN,
    FeatureDefinition,
    FeatureSchema,
)
from feature_store.definitions.schema_changes import schema_changes, summary
from feature_store.definitions.validation import Reasons
from feature_store.ingest.array_columns import parse_array
from feature_store.ingest.parsing import clean, parse_categories, parse_exact, parse_numbers
from feature_store.offline_store import OfflineStore
from pipelines.batch.errors import InputUnusable
from pipelines.batch.keys import Keys, is_text

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 2_048
"""Rows that are laid out together: 47 columns of them fit a second-level cache."""
MOMENT = timedelta(microseconds=1)


Featurizer = Callable[[Keys, "pa.Table", str], FeatureMatrix]
"""Gives the features of ``n`` rows, by their keys and columns; the text names them in a message.

The times are those of the stored rows that were used, NaT where there was none. It raises
`InputUnusable` if a value cannot be used.
"""


def take_features(
    schema: FeatureSchema, keys: Keys, columns: pa.Table, where: str
) -> FeatureMatrix:
    """Take features as they are: numbers, and categories as words or codes; see `Featurizer`."""
    columns = _with_places(columns, schema.array_columns, where)
    arrays = [_numbers(f, columns.column(f.name), where) for f in schema.features]
    values = np.empty((len(keys), len(arrays)), dtype=np.float32)
    for start in range(0, len(keys), BLOCK_ROWS):
        block = values[start : start + BLOCK_ROWS]
        for place, array in enumerate(arrays):
            block[:, place] = array[start : start + BLOCK_ROWS]
        # As the engine leaves it: one NaN for every missing number.
        block[~np.isfinite(block)] = np.nan
    return FeatureMatrix(values, keys, _no_times(len(keys)), schema)


class EngineeredFeatures:
    """Computes features from raw attributes.

    Parameters
    ----------
    schema
        What the model takes.
    engine
        Computes the present version of the view.

    Raises
    ------
    InputUnusable
        If the model takes features that are no longer computed like that.
    """

    def __init__(self, schema: FeatureSchema, engine: Engine) -> None:
        self.schema = schema = schema.model_inputs
        self.engine = engine
        known = engine.schema.positions
        names = [name for name in schema.names if name in known]
        present = engine.schema.select(names).model_inputs
        changes = schema_changes(schema.meaning, present.meaning)
        if changes:
            raise InputUnusable(
                f"The model takes version {schema.fingerprint} of '{schema.view}', which cannot be "
                f"computed from raw attributes any more: {summary(changes)}. Give entity ids."
            )
        self._places = np.array([known[name] for name in schema.names])
        self._is_whole = schema.names == engine.schema.names

    def __call__(self, keys: Keys, columns: pa.Table, where: str) -> FeatureMatrix:
        """See `Featurizer`."""
        import polars as pl

        reasons: Reasons = {}
        raw: dict[str, NDArray[Any]] = {}
        view = self.engine.view
        columns = _with_places(columns, view.arrays, where)
        for exact in (view.exact[name] for name in view.timestamps):
            if exact.name in columns.column_names:
                column = pl.Series(exact.name, columns.column(exact.name))
                given = parse_exact(exact, clean(column, exact.missing_marks), reasons)
                raw[exact.name] = moments(given.tolist())
        for feature in view.raw_features:
            if feature.name in columns.column_names:
                column = pl.Series(feature.name, columns.column(feature.name))
                texts = clean(column, feature.missing_marks)
                if feature.kind == "category":
                    raw[feature.name], _ = parse_categories(feature, texts)
                else:
                    raw[feature.name] = parse_numbers(feature, texts, reasons)
        if reasons:
            row = min(reasons)
            name = keys[row] if self.engine.view.key.is_whole else f"of row {row + 1:,}"
            raise InputUnusable(f"User {name} in {where}: {reasons[row]}.")
        values = self.engine.table(raw)
        if not self._is_whole:
            values = np.ascontiguousarray(values[:, self._places])
        return FeatureMatrix(values, keys, _no_times(len(keys)), self.schema)


def lookup_of(
    offline: OfflineStore,
    schema: FeatureSchema,
    entity: str,
    as_of: datetime,
    known_by: datetime,
    ttl: timedelta | None,
) -> Featurizer:
    """Give what looks features up in the offline store; who is not known has all of them missing.

    Parameters
    ----------
    as_of
        Features of events before this time.
    known_by
        Only what the store had learned by then, so that a second look gives the same.
    ttl
        Features older than this read as missing.
    """
    # The lookup includes its moment.
    moment = np.datetime64((as_of - MOMENT).replace(tzinfo=None), "us")

    def look_up(keys: Keys, columns: pa.Table, where: str) -> FeatureMatrix:
        times = np.full(len(keys), moment)
        return offline.as_of(schema, entity, keys, times, ttl=ttl, known_by=known_by)

    return look_up


def _with_places(columns: pa.Table, arrays: Mapping[str, ArrayColumn], where: str) -> pa.Table:
    """The columns with the places of arrays, as float32, in place of their lists."""
    import polars as pl
    import pyarrow as pa

    for array in arrays.values():
        if array.name not in columns.column_names:
            continue
        reasons: Reasons = {}
        values = parse_array(array, pl.Series(array.name, columns.column(array.name)), reasons)
        if reasons:
            row = min(reasons)
            raise InputUnusable(f"Row {row + 1:,} of {where}: {reasons[row]}.")
        columns = columns.drop_columns([array.name])
        for name, numbers in zip(array.members, np.ascontiguousarray(values.T), strict=True):
            columns = columns.append_column(name, pa.chunked_array([numbers]))
    return columns


def _numbers(feature: FeatureDefinition, column: pa.ChunkedArray, where: str) -> NDArray[Any]:
    """A column as numbers ``(n,)``: what is missing is NaN, or code 0 of a category."""
    import pyarrow as pa

    kind = column.type
    if feature.kind == "category" and (is_text(kind) or pa.types.is_dictionary(kind)):
        import polars as pl

        words = pl.Series(feature.name, column).cast(pl.String)
        codes, _ = parse_categories(feature, clean(words, feature.missing_marks))
        return codes
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        expected = "words or codes" if feature.kind == "category" else "numbers"
        raise InputUnusable(f"Column '{feature.name}' of {where} is {kind}; expected {expected}.")
    numbers: NDArray[Any] = column.cast(pa.float32(), safe=False).to_numpy()
    _refuse_lost_digits(feature, column, numbers, where)
    if feature.kind != "category":
        return numbers
    last = feature.codes_end - 1
    codes = np.where(np.isnan(numbers), MISSING, numbers)
    return np.where((codes >= MISSING) & (codes <= last), codes, UNSEEN)


def _refuse_lost_digits(
    feature: FeatureDefinition, column: pa.ChunkedArray, numbers: NDArray[Any], where: str
) -> None:
    """Raise when a whole number has become another one."""
    sizes = np.abs(numbers)
    if not np.fmax.reduce(sizes, initial=0) >= LARGEST_EXACT_INTEGER:
        return
    large = np.flatnonzero(sizes >= LARGEST_EXACT_INTEGER)
    for row, value in zip(large.tolist(), column.take(large).to_pylist(), strict=True):
        if becomes_another(value):
            raise InputUnusable(
                f"Column '{feature.name}' of {where} holds {value}, which a float32 holds as "
                f"{numbers[row]:.0f}. Give what the model was trained on."
            )


def _no_times(n: int) -> NDArray[np.datetime64]:
    return np.full(n, np.datetime64("NaT"), dtype="datetime64[us]")
