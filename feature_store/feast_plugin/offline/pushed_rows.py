"""Rows that clients push to views of ours, as Arrow tables, into matrices; and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa
from feast.data_source import DataSource
from numpy.typing import NDArray

from feature_store.definitions.cleaning import LARGEST_EXACT_INTEGER
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.schema import FeatureDefinition
from feature_store.definitions.validation import Reasons
from feature_store.definitions.view import FeatureView
from feature_store.definitions.windowed_view import View
from feature_store.errors import FeatureStoreError
from feature_store.ingest.array_columns import parse_array
from feature_store.ingest.parsing import (
    clean,
    parse_categories,
    parse_exact,
    parse_keys,
    parse_numbers,
)
from feature_store.offline.entity_keys import note_keys
from feature_store.offline.postgres import Postgres
from feature_store.offline.vocabularies import Vocabularies


@dataclass(frozen=True)
class PushedRows:
    """Rows of a view as a client pushes them.

    Parameters
    ----------
    created
        datetime64[us] ``(n,)``: when the store learned each; now, where the client does not say.
    texts
        The key of each as one text ``(n,)``; None where keys are whole numbers.
    """

    matrix: FeatureMatrix
    created: NDArray[np.datetime64]
    texts: NDArray[np.object_] | None

    @classmethod
    def of(
        cls, table: pa.Table, view: FeatureView, source: DataSource, vocabularies: Vocabularies
    ) -> PushedRows:
        """The rows of an Arrow table in Feast's types.

        Raises
        ------
        FeatureStoreError
            If a key or a value cannot be one of the view's; the message names the first row.
        """
        frame = pl.DataFrame(pl.from_arrow(table))
        if names := [feature.name for feature in view.schema.open_features]:
            words = {name: frame[name].drop_nulls().unique(maintain_order=True) for name in names}
            view = vocabularies.learn(vocabularies.view(view), words)
        values, exact = _stored_values(frame, view)
        times, created = _times(frame[source.timestamp_field]), _created(frame, source)
        keys, texts = keys_of(frame, view)
        return cls(FeatureMatrix(values, keys, times, view.schema, exact), created, texts)

    def note_keys(self, postgres: Postgres, key: Entity) -> None:
        """Note the keys behind the identities, where they are no whole numbers."""
        if self.texts is not None:
            with postgres.transaction() as connection:
                note_keys(connection, key, self.matrix.keys, self.texts.tolist())


def keys_of(
    frame: pl.DataFrame, view: View
) -> tuple[NDArray[np.int64], NDArray[np.object_] | None]:
    """Identities of a frame's keys ``(n,)``, and the text of each where it is no whole number.

    Raises
    ------
    FeatureStoreError
        If one is missing, or no key of the view; the message names the first.
    """
    reasons: Reasons = {}
    marks = view.missing_marks if isinstance(view, FeatureView) else ()
    columns = [clean(frame[name], marks) for name in view.key.columns]
    keys = parse_keys(view.key, columns, reasons)
    refuse_first(reasons, view.name)
    return keys.identities, keys.texts


def event_times(table: pa.Table, source: DataSource) -> NDArray[np.datetime64]:
    """When the events ``(n,)`` of an Arrow table happened, in UTC; NaT where it does not say."""
    return _times(pl.Series(pl.from_arrow(table[source.timestamp_field])))


def _stored_values(
    frame: pl.DataFrame, view: FeatureView
) -> tuple[NDArray[np.float32], NDArray[np.object_] | None]:
    """Vectors ``(n, p)`` and exact values ``(n, k)`` of a frame in Feast's types."""
    reasons: Reasons = {}
    schema = view.schema
    values = np.empty((len(frame), len(schema)), dtype=np.float32)
    for name, array in view.arrays.items():
        places = list(schema.arrays[name].values())
        values[:, places] = parse_array(array, frame[name], reasons)
    for place, feature in enumerate(schema.features):
        if feature.array is not None:
            continue
        cleaned = clean(frame[feature.name], feature.missing_marks)
        if feature.is_cast:
            values[:, place] = parse_numbers(feature, cleaned, reasons)
        else:
            values[:, place] = _stored_column(feature, cleaned)
    exact = np.full((len(frame), len(schema.exact)), None, dtype=object)
    for place, column in enumerate(schema.exact):
        cleaned = clean(frame[column.name], column.missing_marks)
        exact[:, place] = parse_exact(column, cleaned, reasons)
    refuse_first(reasons, view.name)
    return values, exact if schema.exact else None


def refuse_first(reasons: Reasons, view: str) -> None:
    """Refuse rows of a view if there is a reason; the message names the first."""
    if reasons:
        row = min(reasons)
        raise FeatureStoreError(f"Row {row + 1:,} of '{view}': {reasons[row]}.")


def _stored_column(feature: FeatureDefinition, cleaned: pl.Series) -> NDArray[np.generic]:
    if feature.kind != "category":
        numbers = cleaned.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        for row in np.flatnonzero(np.abs(numbers) >= LARGEST_EXACT_INTEGER).tolist():
            feature.encode(cleaned[row])  # refuses a whole number that became another one
        return numbers
    codes, _ = parse_categories(feature, cleaned)
    return codes


def _times(column: pl.Series) -> NDArray[np.datetime64]:
    if column.dtype == pl.String:
        column = column.str.to_datetime(time_zone="UTC")
    elif column.dtype.time_zone is not None:  # type: ignore[attr-defined]
        column = column.dt.convert_time_zone("UTC")
    return column.dt.replace_time_zone(None).dt.cast_time_unit("us").to_numpy()


def _created(frame: pl.DataFrame, source: DataSource) -> NDArray[np.datetime64]:
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")
    if source.created_timestamp_column not in frame.columns:
        return np.full(len(frame), now)
    given = _times(frame[source.created_timestamp_column])
    return np.where(np.isnat(given), now, given)
