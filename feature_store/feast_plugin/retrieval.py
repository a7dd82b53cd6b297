"""Point-in-time retrieval for Feast: entity rows joined with the features as they were then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView
from feast.types import from_feast_to_pyarrow_type

from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.queries import Source, moment, quoted, source_columns
from feature_store.offline_store import KEYS_IN_QUERY
from feature_store.point_in_time import join_as_of
from feature_store.postgres import Postgres


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

    source: Source
    keys: Mapping[str, str]
    features: Mapping[str, tuple[str, pa.DataType]]
    ttl: timedelta | None

    def stored(self, postgres: Postgres, asked: pl.DataFrame) -> pl.DataFrame:
        """The rows that may answer some asked row: keys, times, ``feature_0`` and so on."""
        aliases = {f"feature_{n}": column for n, (column, _) in enumerate(self.features.values())}
        event, created = self.source.event_time, self.source.created_time
        columns = {
            **dict(zip(self.keys, self.keys.values(), strict=True)),
            "event_timestamp": event,
            "created_timestamp": created or event,
            **aliases,
        }
        times = asked["time"]
        where = []
        if times.max() is not None:
            where.append(f"{quoted(event)} <= {moment(_time(times.max()))}")
            if self.ttl is not None:
                where.append(f"{quoted(event)} >= {moment(_time(times.min()) - self.ttl)}")
        for name, column in self.keys.items():
            keys = asked[name].unique().drop_nulls()
            if len(keys) <= KEYS_IN_QUERY and keys.dtype.is_integer() and len(keys):
                where.append(f"{quoted(column)} IN ({', '.join(map(str, keys.to_list()))})")
        return postgres.query(self.source.select(columns, where))

    def join(self, postgres: Postgres, asked: pl.DataFrame, *, known: bool) -> dict[str, pa.Array]:
        """The features ``(n,)`` of the asked rows (keys and ``time``); null where none."""
        stored = self.stored(postgres, asked)
        keys = [_like(asked[name], stored[name].dtype) for name in self.keys]
        asked = pl.DataFrame([*keys, asked["time"]])
        places = join_as_of(asked, stored, list(self.keys), self.ttl, known=known)
        index = pl.Series(places).replace(-1, None)
        return {
            name: stored[f"feature_{n}"].gather(index).to_arrow().cast(arrow_type)
            for n, (name, (_, arrow_type)) in enumerate(self.features.items())
        }


class Request(Protocol):
    """What to read of one feature view: stored rows, or values made from events."""

    @property
    def source(self) -> Source:
        """Where its rows come from."""

    @property
    def keys(self) -> Mapping[str, str]:
        """Column of the entity rows to column of the source."""

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
        keys = [pl.from_pandas(entity_rows[name]).alias(name) for name in request.keys]
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
    keys = list(requests[0].keys)
    frames = []
    for request in requests:
        if list(request.keys) != keys:
            raise FeatureStoreError(
                "Views of different entities have no rows in common; give an entity_df."
            )
        columns = {**request.keys, "event_timestamp": request.source.event_time}
        where = request.source.between(start, end)
        frames.append(postgres.query(request.source.select(columns, where, distinct=True)))
    return pl.concat(frames).unique().sort(*keys, "event_timestamp").to_pandas()


def requested_features(
    view: FeatureView, names: Sequence[str], full_names: bool
) -> dict[str, tuple[str, pa.DataType]]:
    """Column of the result to (column of the source, Arrow type) for some features of a view."""
    columns = source_columns(view)
    types = {f.name: from_feast_to_pyarrow_type(f.dtype) for f in view.features if f.name in names}
    prefix = f"{view.projection.name_to_use()}__" if full_names else ""  # type: ignore[no-untyped-call]
    return {prefix + name: (columns.get(name, name), types[name]) for name in names}


def _time(value: Any) -> datetime:
    assert isinstance(value, datetime)
    return value


def _like(keys: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Keys in the type of the stored ones; null where they cannot be one of them."""
    cast = keys.cast(dtype, strict=False)
    if not keys.dtype.is_float():
        return cast
    return pl.select(pl.when(cast.cast(keys.dtype) == keys).then(cast)).to_series().alias(keys.name)
