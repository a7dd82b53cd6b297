"""Stored rows with exact columns: read row by row, since their values are of any length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import FeatureDefinition, FeatureSchema

if TYPE_CHECKING:
    import polars as pl
    import psycopg

ROWS_AT_ONCE = 10_000
"""Rows with exact columns that are in memory at once."""


@dataclass(frozen=True)
class ExactRows:
    """Some rows of a query.

    Parameters
    ----------
    fixed
        The columns before the features, one sequence ``(n,)`` each.
    values
        float32 ``(n, p)``.
    exact
        Objects ``(n, k)``.
    """

    fixed: tuple[Sequence[Any], ...]
    values: NDArray[np.float32]
    exact: NDArray[np.object_]


@dataclass(frozen=True)
class ExactLayout:
    """What a query gives: fixed columns, features as numbers, exact columns.

    Parameters
    ----------
    fixed
        How many columns stand before the features.
    features, columns
        In the order of the query.
    """

    fixed: int
    features: Sequence[FeatureDefinition]
    columns: Sequence[ExactColumn]

    def read(
        self,
        connection: psycopg.Connection,
        query: str,
        parameters: Mapping[str, Any] | None = None,
    ) -> ExactRows:
        """All rows of a query."""
        with connection.cursor(binary=True) as cursor:
            return self._decoded(cursor.execute(query, parameters).fetchall())

    def read_blocks(
        self,
        connection: psycopg.Connection,
        query: str,
        parameters: Mapping[str, Any] | None = None,
    ) -> Iterator[ExactRows]:
        """The rows of a query, block by block, none where there is no row."""
        with connection.cursor(name="exact_rows", binary=True) as cursor:
            cursor.execute(query, parameters)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield self._decoded(rows)

    def _decoded(self, rows: Sequence[tuple[Any, ...]]) -> ExactRows:
        p, behind = len(self.features), self.fixed + len(self.features)
        fixed = tuple([row[place] for row in rows] for place in range(self.fixed))
        values = np.array([row[self.fixed : behind] for row in rows], np.float32)
        exact = np.full((len(rows), len(self.columns)), None, dtype=object)
        for place, row in enumerate(rows):
            exact[place] = [_in_utc(value) for value in row[behind:]]
        values = values.reshape(len(rows), p)
        self._cast(exact, values)
        return ExactRows(fixed, values, exact)

    def _cast(self, exact: NDArray[np.object_], values: NDArray[np.float32]) -> None:
        """Fill in what a model takes of exact columns: PostgreSQL refuses to round the smallest."""
        places = {column.name: place for place, column in enumerate(self.columns)}
        for place, feature in enumerate(self.features):
            if feature.is_cast:
                column = exact[:, places[feature.name]].tolist()
                values[:, place] = [np.nan if value is None else value for value in column]


def naive_times(times: Sequence[datetime]) -> NDArray[np.datetime64]:
    """Times with a zone as datetime64[us] ``(n,)`` in UTC."""
    naive = [time.astimezone(UTC).replace(tzinfo=None) for time in times]
    return np.array(naive, dtype="datetime64[us]")


def exact_values(frame: pl.DataFrame, schema: FeatureSchema) -> NDArray[np.object_] | None:
    """Objects ``(n, k)`` of a frame's exact columns; None where the schema has none."""
    if not schema.exact:
        return None
    values = np.full((len(frame), len(schema.exact)), None, dtype=object)
    for place, column in enumerate(schema.exact):
        values[:, place] = [_in_utc(value) for value in frame[column.name].to_list()]
    return values


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
