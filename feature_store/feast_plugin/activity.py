"""Windowed views under Feast: values made from events where other views have stored rows.

==================  ==============================================================
historical read     as of the asked time of each row; TTL and known-by included
no entity rows      one row for each event of the range, as of the event's time
pulls               one row for each event (or each user), as of just after it
materialize         the online rows of users with events in the range, made anew
push, offline       the pushed rows are events: stored, and their users' rows made
push, online        refused: a row is made of events, not of values
==================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa
from feast.data_source import DataSource
from feast.repo_config import RepoConfig
from feast.types import from_feast_to_pyarrow_type

from feature_store import connect
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.windowed_view import ActivityView, View
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.connections import offline_store, settings_of
from feature_store.feast_plugin.definitions import FEAST_TYPES
from feature_store.feast_plugin.identity import own_source
from feature_store.feast_plugin.offline.asked_keys import identities_of, key_columns
from feature_store.feast_plugin.offline.pushed_rows import keys_of
from feature_store.feast_plugin.offline.queries import FromClause, column_types, readable_events
from feature_store.offline.events import ActivityEvent
from feature_store.offline.postgres import Postgres
from feature_store.offline.windowed_reads import ActivityStore
from feature_store.online_store import OnlineStore
from feature_store.windows.writer import ActivityWriter


@dataclass(frozen=True)
class ActivityRequest:
    """What to read of a windowed view; answers as a `ViewRequest` does.

    Parameters
    ----------
    source
        The events.
    keys
        Column of the entity rows to column of the source.
    features
        Column of the result to (feature, type of the result).
    """

    view: ActivityView
    source: FromClause
    keys: Mapping[str, str]
    features: Mapping[str, tuple[str, pa.DataType]]

    def join(self, postgres: Postgres, asked: pl.DataFrame, *, known: bool) -> dict[str, pa.Array]:
        """The features ``(n,)`` of the asked rows (keys and ``time``); null where none."""
        columns = {column: asked[name] for name, column in self.keys.items()}
        keys = identities_of(self.view.key, columns)
        times = asked["time"].to_numpy().astype("datetime64[us]")
        times = np.where(keys.is_null().to_numpy(), np.datetime64("NaT"), times)
        schema = self.view.schema.select([name for name, _ in self.features.values()])
        matrix, _ = ActivityStore(postgres).historical(
            schema, keys.fill_null(0).to_numpy(), times, known=known
        )
        types = [arrow_type for _, arrow_type in self.features.values()]
        return dict(zip(self.features, _columns(matrix, types), strict=True))


def windowed_view(source: DataSource, names: Sequence[str]) -> ActivityView | None:
    """The windowed view that is made of a source's events, if these are features of it."""
    view = own_source(source)
    is_made = isinstance(view, ActivityView) and set(names) <= set(view.schema.names)
    return view if isinstance(view, ActivityView) and is_made else None


def pull_events(
    view: ActivityView,
    postgres: Postgres,
    names: list[str],
    times: list[str],
    start: datetime | None,
    end: datetime | None,
    *,
    newest: bool,
) -> pa.Table:
    """A row for each event in ``[start, end)``, or for the newest one of each user.

    Parameters
    ----------
    names
        The features that are wanted.
    times
        What to call the event time and, if it is wanted, the created time.
    """
    schema = view.schema.select(names)
    matrix, created = ActivityStore(postgres).after_events(schema, start, end, newest=newest)
    types = [from_feast_to_pyarrow_type(FEAST_TYPES[f.kind]) for f in schema.features]
    columns = dict(zip(names, _columns(matrix, types), strict=True))
    moments = [pa.array(each, pa.timestamp("us", "UTC")) for each in (matrix.times, created)]
    stamped = dict(zip(times, moments, strict=False))
    keys = key_columns(postgres, view.key, matrix.keys)
    table = pa.table({**keys, **columns, **stamped})
    # The table may hold events of other entities, whose keys are not of this one.
    return table.filter(table[view.key.columns[0]].is_valid())


def event_columns(view: ActivityView, postgres: Postgres) -> list[tuple[str, str]]:
    """Names and types of what a pushed event has; when it was learned is for us to say."""
    columns = column_types(postgres, f"{readable_events(view.key)} AS source")
    return [(name, kind) for name, kind in columns if name != "created_timestamp"]


def writer(config: RepoConfig, view: ActivityView, project: str | None = None) -> ActivityWriter:
    """What stores a view's events, in the stores that ``feature_store.yaml`` names.

    Parameters
    ----------
    project
        Whose online rows follow from them; those of the Feast project when None.
    """
    online = connect.online_store(settings_of(config), schema=view.schema)
    online = OnlineStore(
        online.client, project or config.project, view.schema, online.ttl, online.write_batch_rows
    )
    return ActivityWriter(offline_store(config.offline_store.url).postgres, online)


def push_events(config: RepoConfig, view: ActivityView, table: pa.Table) -> None:
    """Store pushed events, each once, and make the online rows of their users.

    Those of the project that the settings name as well, since it shares the events.
    """
    events = _events(pl.DataFrame(pl.from_arrow(table)), view)
    shared = settings_of(config).feature.project
    for project in dict.fromkeys([shared, config.project]):
        writer(config, view, project).apply(events, datetime.now(UTC))


def _events(rows: pl.DataFrame, view: ActivityView) -> list[ActivityEvent]:
    identities, texts = keys_of(rows, view)
    times = _utc(rows["event_timestamp"])
    return [
        ActivityEvent(
            event_id=str(row["event_id"]),
            key=key,
            time=row["event_timestamp"],
            event_type=str(row["event_type"]),
            amount_cents=None if row["amount_cents"] is None else int(row["amount_cents"]),
            key_fields=None if text is None else _key_fields(view.key, text),
        )
        for row, key, text in zip(
            rows.with_columns(event_timestamp=times).iter_rows(named=True),
            identities.tolist(),
            [None] * len(rows) if texts is None else texts,
            strict=True,
        )
    ]


def _key_fields(key: Entity, text: str) -> dict[str, str]:
    return {name: str(value) for name, value in key.values(key.parse(text)).items()}


def refuse_values(view: View) -> None:
    """Refuse to write values of a windowed view: its online rows are made of events.

    Raises
    ------
    FeatureStoreError
        If the view is windowed.
    """
    if isinstance(view, ActivityView):
        raise FeatureStoreError(
            f"The online rows of '{view.name}' are made of events; values cannot be written into "
            f"them. Push events to '{view.name}_push' with to=PushMode.OFFLINE (both stores are "
            "written), or materialize with PackedMaterializationEngine."
        )


def _utc(times: pl.Series) -> pl.Series:
    if times.dtype == pl.String:
        return times.str.to_datetime(time_zone="UTC")
    if times.dtype.time_zone is None:  # type: ignore[attr-defined]
        return times.dt.replace_time_zone("UTC")
    return times.dt.convert_time_zone("UTC")


def _columns(matrix: FeatureMatrix, types: Sequence[pa.DataType]) -> list[pa.Array]:
    """Feature columns in the types of Feast's clients; NaN is null."""
    columns = np.ascontiguousarray(matrix.values.T)
    return [
        pa.array(column, from_pandas=True).cast(each)
        for column, each in zip(columns, types, strict=True)
    ]
