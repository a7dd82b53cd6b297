"""Point-in-time retrieval for Feast: entity rows joined with the features as they were then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.types import Bytes, FeastType, from_feast_to_pyarrow_type
from numpy.typing import NDArray

from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.offline.asked_keys import identities_of
from feature_store.feast_plugin.offline.point_in_time import KeptRows, Sieve, like
from feature_store.feast_plugin.offline.queries import FromClause, moment, quoted, source_columns
from feature_store.offline.newest_rows import PLACE, Lookup
from feature_store.offline.postgres import Postgres

KEYS_IN_QUERY = 2_000
"""Up to so many entities are named in the query; for more, reading the range is faster."""


@dataclass(frozen=True)
class ViewRequest:
    """What to read of one feature view.

    Parameters
    ----------
    source
        Its rows.
    keys
        Column of the entity rows to column of the source.
    features
        Column of the result to (column of the source, type of the result).
    ttl
        Rows older than this at the asked time are missing.
    """

    source: FromClause
    keys: Mapping[str, str]
    features: Mapping[str, tuple[str, pa.DataType | None]]
    ttl: timedelta | None

    def join(self, postgres: Postgres, asked: pl.DataFrame, *, known: bool) -> dict[str, pa.Array]:
        """The features ``(n,)`` of the asked rows (keys and ``time``); null where none."""
        # A table may call a column by a name that is used here.
        asked = asked.rename({name: f"key_{n}" for n, name in enumerate(self.keys)})
        answer = self._looked_up if self.source.by_entity else self._sifted
        rows, places = answer(postgres, asked, known)
        return {
            name: declared(rows.pop(f"feature_{n}", places), arrow_type)
            for n, (name, (_, arrow_type)) in enumerate(self.features.items())
        }

    def _looked_up(
        self, postgres: Postgres, asked: pl.DataFrame, known: bool
    ) -> tuple[KeptRows, NDArray[np.int64]]:
        """Rows that answer, and their places among them ``(n,)``: by the table's index."""
        source = self.source
        lookup = Lookup(
            rows=source.rows,
            entity=quoted(source.identity),
            event_time=quoted(source.event_time),
            created_time=quoted(source.created_time or source.event_time),
            columns=source.named(self._aliases()),
            ttl=self.ttl,
            known=known,
        )
        keys = self._identities(asked)
        usable = asked.select("time", key=keys).with_row_index("n").drop_nulls()
        numbers, rows = usable["n"].to_numpy(), KeptRows()
        places = np.full(len(asked), -1, dtype=np.int64)
        for block in lookup.answers(postgres, usable["key"].to_numpy(), usable["time"].to_numpy()):
            answered = numbers[block[PLACE].to_numpy()]
            places[answered] = np.arange(len(rows), len(rows) + len(block))
            rows.add(block.drop(PLACE))
        return rows, places

    def _identities(self, asked: pl.DataFrame) -> pl.Series:
        """The identity behind each asked key; null where there is no whole key."""
        columns = {name: asked[f"key_{n}"] for n, name in enumerate(self.keys.values())}
        if self.source.key is None:
            return like(asked["key_0"], pl.Int64())
        return identities_of(self.source.key, columns)

    def _sifted(
        self, postgres: Postgres, asked: pl.DataFrame, known: bool
    ) -> tuple[KeptRows, NDArray[np.int64]]:
        """Rows that answer, and their places among them ``(n,)``: out of all rows, block by block.

        A table of somebody else's may lack an index, and its rows may lie in any order.
        """
        source = self.source.typed(postgres)
        event, created = source.event_time, source.created_time
        names = [f"key_{n}" for n in range(len(self.keys))]
        columns = {
            **dict(zip(names, self.keys.values(), strict=True)),
            "event_timestamp": event,
            "created_timestamp": created or event,
            **self._aliases(),
        }
        sieve = Sieve(asked, names, self.ttl, known=known)
        as_text = [name for name in names if asked[name].dtype == pl.String]
        query = source.select(columns, self._candidates(asked), as_text=as_text)
        block = None
        for block in postgres.stream(query):
            sieve.add(block)
        if block is None:  # the types are still to be known
            sieve.add(postgres.query(f"{source.select(columns, as_text=as_text)} LIMIT 0"))
        return sieve.answers()

    def _candidates(self, asked: pl.DataFrame) -> list[str]:
        """Conditions that every row meets which may answer some asked row."""
        event, times, where = quoted(self.source.event_time), asked["time"], []
        if times.max() is not None:
            where.append(f"{event} <= {moment(_time(times.max()))}")
            if self.ttl is not None:
                where.append(f"{event} >= {moment(_time(times.min()) - self.ttl)}")
        for n, column in enumerate(self.keys.values()):
            keys = asked[f"key_{n}"].unique().drop_nulls()
            if len(keys) <= KEYS_IN_QUERY and keys.dtype.is_integer() and len(keys):
                where.append(f"{quoted(column)} IN ({', '.join(map(str, keys.to_list()))})")
        return where

    def _aliases(self) -> dict[str, str]:
        return {f"feature_{n}": column for n, (column, _) in enumerate(self.features.values())}


def declared(column: pa.Array, kind: pa.DataType | None) -> pa.Array:
    """A column as its feature is declared; a number that is stored wider keeps its digits.

    Examples
    --------
    >>> declared(pa.array([0.1]), pa.float32()).type  # as float32 it would be 0.10000000149
    DataType(double)
    >>> declared(pa.array([1], pa.int32()), pa.int64()).type
    DataType(int64)
    >>> declared(pa.array(['{"a": "b"}']), pa.map_(pa.string(), pa.string())).to_pylist()
    [[('a', 'b')]]
    """
    stored = column.type
    if kind is None or _is_wider(stored, kind):
        return column
    if _is_list(stored) and _is_list(kind) and _is_wider(stored.value_type, kind.value_type):
        return column.cast(pa.list_(stored.value_type))
    if pa.types.is_nested(kind) and not pa.types.is_nested(stored):
        values = [None if text is None else json.loads(text) for text in column.to_pylist()]
        return pa.array(values, kind)
    return column.cast(kind)


def arrow_type(dtype: FeastType) -> pa.DataType | None:
    """The type that a Feast type has in Arrow; None for one that stays as it is stored."""
    if dtype == Bytes:  # Feast's own conversion knows only lists of them
        return pa.binary()
    try:
        return from_feast_to_pyarrow_type(dtype)
    except ValueError:
        return None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_wider(stored: pa.DataType, kind: pa.DataType) -> bool:
    families = (pa.types.is_integer, pa.types.is_floating)
    alike = any(family(stored) and family(kind) for family in families)
    return alike and stored.bit_width > kind.bit_width


class Request(Protocol):
    """What to read of one feature view: stored rows, or values made from events."""

    @property
    def source(self) -> FromClause:
        """Where its rows come from."""

    @property
    def keys(self) -> Mapping[str, str]:
        """Column of the entity rows to column of the source."""

    @property
    def features(self) -> Mapping[str, tuple[str, pa.DataType | None]]:
        """Column of the result to column of the source, and type."""

    def join(self, postgres: Postgres, asked: pl.DataFrame, *, known: bool) -> dict[str, pa.Array]:
        """The features ``(n,)`` of the asked rows (keys and ``time``); null where none."""


def historical(
    postgres: Postgres,
    entity_rows: pd.DataFrame,
    time_column: str,
    requests: Sequence[Request],
    *,
    known: bool = False,
) -> pa.Table:
    """Entity rows, in order, with the features of every requested view as of their times in UTC."""
    table = pa.Table.from_pandas(entity_rows, preserve_index=False).replace_schema_metadata()
    times = entity_rows[time_column].dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    asked_time = pl.Series("time", times)
    for request in requests:
        keys = [_key(entity_rows, name) for name in request.keys]
        asked = pl.DataFrame([*keys, asked_time])
        for name, column in request.join(postgres, asked, known=known).items():
            table = table.append_column(name, column)
    return table


def in_utc(entity_rows: pd.DataFrame, time_column: str) -> pd.DataFrame:
    """The rows with their times in UTC; a time without a zone is in UTC already."""
    times = pd.to_datetime(entity_rows[time_column], utc=True)
    return entity_rows.assign(**{time_column: times.astype("datetime64[us, UTC]")})


def every_event(
    postgres: Postgres, requests: Sequence[Request], start: datetime, end: datetime
) -> pd.DataFrame:
    """Entity rows for every event of the requested views in ``[start, end)``."""
    of_somebody = [each for each in requests if DUMMY_ENTITY_ID not in each.keys]
    keys = list((of_somebody or requests)[0].keys)
    frames = []
    for request in of_somebody or requests:
        if list(request.keys) != keys:
            raise FeatureStoreError(
                "Views of different entities have no rows in common; give an entity_df."
            )
        columns = {**request.keys, "event_timestamp": request.source.event_time}
        where = request.source.between(start, end)
        source = request.source.typed(postgres)
        frames.append(postgres.query(source.select(columns, where, distinct=True)))
    rows = pl.concat(frames).unique().sort(*keys, "event_timestamp")
    return rows.drop(DUMMY_ENTITY_ID, strict=False).to_pandas()


def requested_features(
    view: FeatureView, names: Sequence[str], full_names: bool
) -> dict[str, tuple[str, pa.DataType | None]]:
    """Column of the result to (column of the source, Arrow type) for some features of a view."""
    columns = source_columns(view)
    types = {f.name: arrow_type(f.dtype) for f in view.features if f.name in names}
    prefix = f"{view.projection.name_to_use()}__" if full_names else ""  # type: ignore[no-untyped-call]
    return {prefix + name: (columns.get(name, name), types[name]) for name in names}


def _key(entity_rows: pd.DataFrame, name: str) -> pl.Series:
    if name == DUMMY_ENTITY_ID and name not in entity_rows:
        return pl.Series(name, [DUMMY_ENTITY_VAL] * len(entity_rows))
    return pl.from_pandas(entity_rows[name]).alias(name)


def _time(value: Any) -> datetime:
    assert isinstance(value, datetime)
    return value
