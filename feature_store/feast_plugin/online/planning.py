"""Online requests planned once: what Feast works out anew for each call is kept until it changes.

A plan belongs to the context that Feast itself keeps for (features, project, full names) and drops
when its registry is read again or its time is up; a plan is dropped with it. Of a planned request
remain one MGET, and columns of Python values; Feast's messages are made only for who asks for them.
Requests of other kinds (on-demand features, several keys, keys that are no plain numbers) take
Feast's own way, and so do those for Feast to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from feast import FeatureService, FeatureView
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import (
    _get_cached_request_context as request_context,
    _populate_result_rows_from_columnar as fill_given,
)
from feast.value_type import ValueType

from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.feast_plugin.identity import is_packed, known_view
from feature_store.feast_plugin.online.exact_times import Times, with_times
from feature_store.feast_plugin.online.reading import (
    ReadRow,
    Replies,
    ViewRead,
    mark_nulls,
    read_row,
)
from feature_store.online.row_codec import Row
from feature_store.online_store import OnlineStore

PLANS = 256
"""So many different requests are kept; beyond that all are planned anew."""
SMALLEST, LARGEST = -(2**63), 2**63 - 1

Opened = Callable[[FeatureView], tuple[OnlineStore, ValueCodec]]
"""Gives our store of a view's rows, and what turns them into Feast's values."""


@dataclass(frozen=True)
class PlannedView:
    """What a plan reads of one view.

    Parameters
    ----------
    labels
        The wanted features as the answer calls them.
    places
        Their places in a row.
    timestamps
        Labels of those that are exact columns of times.
    """

    table: FeatureView
    store: OnlineStore
    codec: ValueCodec
    names: list[str]
    labels: list[str]
    places: list[int]
    timestamps: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """What a request reads.

    Parameters
    ----------
    key
        The column of the request that holds the entities.
    types
        What Feast keeps beside an answer: feature to type, under both its names.
    """

    key: str
    views: list[PlannedView]
    full_names: bool
    types: dict[str, ValueType]

    def entities(self, rows: Any) -> list[int] | None:
        """The entities of a request; None where Feast's own way must look at them."""
        if isinstance(rows, list):
            key = self.key
            values = [row[key] for row in rows if len(row) == 1 and key in row]
            if len(values) != len(rows):
                return None
        elif len(rows) == 1 and self.key in rows:
            values = rows[self.key]
        else:
            return None
        if not isinstance(values, list) or not values:
            return None
        plain = all(type(each) is int and SMALLEST <= each <= LARGEST for each in values)
        return values if plain else None

    def redis_keys(self, entities: Sequence[int]) -> list[str]:
        """The Redis keys to read, each once."""
        unique = dict.fromkeys(entities)
        keys = [f"{view.store.prefix}{entity}" for view in self.views for entity in unique]
        return keys if len(self.views) == 1 else list(dict.fromkeys(keys))


class Plans:
    """The plans of one online store."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._plans: dict[tuple[Any, ...], tuple[Any, Plan | None]] = {}

    def plan(
        self, registry: BaseRegistry, project: str, features: Any, full_names: bool
    ) -> Plan | None:
        """The plan of a request; None where Feast's own way must answer it.

        Raises
        ------
        Exception
            Whatever Feast says of features that it cannot serve.
        """
        context = request_context(registry, project, features, full_names)
        is_service = isinstance(features, FeatureService)
        wanted = (features.name,) if is_service else tuple(features)
        name = (is_service, wanted, project, full_names)
        kept = self._plans.get(name)
        if kept is not None and kept[0] is context:
            return kept[1]
        if len(self._plans) >= PLANS:
            self._plans.clear()
        plan = self._made(context, full_names)
        self._plans[name] = context, plan
        return plan

    def _made(self, context: Any, full_names: bool) -> Plan | None:
        _, on_demand, _, _, _, grouped, _, request_data, has_no_entity = context
        keys = {column.name for table, _ in grouped for column in table.entity_columns}
        is_plain = all(_is_plain(table) for table, _ in grouped)
        is_plain = is_plain and all(known_view(table).key.is_whole for table, _ in grouped)
        if on_demand or request_data or has_no_entity or len(keys) != 1 or not is_plain:
            return None
        views = [self._view(table, names, full_names) for table, names in grouped]
        return Plan(keys.pop(), views, full_names, _types(grouped))

    def _view(self, table: FeatureView, names: list[str], full_names: bool) -> PlannedView:
        store, codec = self._opened(table)
        called: str = table.projection.name_to_use()  # type: ignore[no-untyped-call]
        labels = {name: f"{called}__{name}" if full_names else name for name in names}
        places = [codec.place(name) for name in names]
        times = frozenset(labels[name] for name in codec.timestamps(names))
        return PlannedView(table, store, codec, list(names), list(labels.values()), places, times)


class PlannedResponse(OnlineResponse):
    """An answer that makes Feast's message only when somebody asks for it.

    Parameters
    ----------
    plan
        What was asked.
    entities
        Of whom, row by row.
    replies
        What Redis held, by key.
    """

    def __init__(self, plan: Plan, entities: list[int], replies: Replies) -> None:
        self.plan, self.entities = plan, entities
        self._feature_types = plan.types
        self._unique = list(dict.fromkeys(entities))
        self.answers = [_answer(view, self._unique, replies) for view in plan.views]

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:  # type: ignore[override]
        """The answer as Feast's message, each value with its status."""
        response = GetOnlineFeaturesResponse(results=[])
        keys = [Value(int64_val=entity) for entity in self.entities]
        fill_given(response, {self.plan.key: keys})
        places = self._destinations()
        for view, answer in zip(self.plan.views, self.answers, strict=True):
            read = ViewRead(
                view.table, view.store, view.codec, view.names,
                self._unique, places, len(self.entities),
            )  # fmt: skip
            read.fill(answer.rows(view), response, self.plan.full_names, False)
        mark_nulls(response)
        return response

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """The answer by column: `OnlineResponse.to_dict`, without a message in between."""
        if "proto" in self.__dict__:  # its owner may have changed it
            return with_times(super().to_dict(include_event_timestamps), self._times)
        given = list(self.entities)
        answer: dict[str, Any] = {self.plan.key: given}
        if include_event_timestamps:
            answer[self.plan.key + TIMESTAMP_POSTFIX] = [0] * len(given)
        spread = self.spread
        for view, found in zip(self.plan.views, self.answers, strict=True):
            columns, seconds = found.columns(view), found.seconds
            for label, column in zip(view.labels, columns, strict=True):
                answer[label] = column if spread is None else [column[place] for place in spread]
                if include_event_timestamps:
                    answer[label + TIMESTAMP_POSTFIX] = (
                        list(seconds) if spread is None else [seconds[place] for place in spread]
                    )
        return answer

    @property
    def _times(self) -> Times:
        """The exact columns of times, by label."""
        return {
            label: column if self.spread is None else [column[place] for place in self.spread]
            for view, found in zip(self.plan.views, self.answers, strict=True)
            if view.timestamps
            for label, column in zip(view.labels, found.columns(view), strict=True)
            if label in view.timestamps
        }

    @cached_property
    def spread(self) -> list[int] | None:
        """For each row of the answer the place of its entity; None where no entity comes twice."""
        if len(self._unique) == len(self.entities):
            return None
        places = {entity: place for place, entity in enumerate(self._unique)}
        return [places[entity] for entity in self.entities]

    def _destinations(self) -> list[list[int]]:
        spread = self.spread
        if spread is None:
            return [[place] for place in range(len(self._unique))]
        destinations: list[list[int]] = [[] for _ in self._unique]
        for row, place in enumerate(spread):
            destinations[place].append(row)
        return destinations


@dataclass(frozen=True)
class ViewAnswer:
    """The rows of one view, one an entity.

    Parameters
    ----------
    found
        Rows as they are stored; None where there is none.
    expired
        Places of those that are older than the view's TTL.
    """

    found: list[Row | None]
    expired: frozenset[int]

    @property
    def seconds(self) -> list[int]:
        """Event time of each row in whole seconds since 1970; 0 where there is none."""
        return [0 if row is None else row.event_time_us // 1_000_000 for row in self.found]

    def columns(self, view: PlannedView) -> list[list[Any]]:
        """The values ``(n,)`` of each wanted feature; None where there is none."""
        n = len(self.found)
        there = [
            place
            for place, row in enumerate(self.found)
            if row is not None and place not in self.expired
        ]
        rows = [row for place in there if (row := self.found[place]) is not None]
        if not rows:
            return [[None] * n for _ in view.places]
        columns = view.codec.columns(rows, view.places)
        return columns if len(there) == n else [_spread(column, there, n) for column in columns]

    def rows(self, view: PlannedView) -> list[ReadRow]:
        """The rows as Feast wants them: `ViewRead.rows`."""
        return [
            read_row(view.codec, view.names, row, place in self.expired)
            for place, row in enumerate(self.found)
        ]


def _answer(view: PlannedView, entities: list[int], replies: Replies) -> ViewAnswer:
    prefix, store = view.store.prefix, view.store
    found = store.decode(entities, [replies[f"{prefix}{entity}"] for entity in entities])
    if store.ttl is None:
        return ViewAnswer(found, frozenset())
    old = (place for place, row in enumerate(found) if row is not None and store.expired(row))
    return ViewAnswer(found, frozenset(old))


def _spread(column: list[Any], places: list[int], n: int) -> list[Any]:
    whole: list[Any] = [None] * n
    for place, value in zip(places, column, strict=True):
        whole[place] = value
    return whole


def _is_plain(table: Any) -> bool:
    """Whether a view is one of rows, asked for under its own key and in its newest version."""
    if not isinstance(table, FeatureView) or is_packed(table):
        return False
    projection = table.projection
    return not projection.join_key_map and getattr(projection, "version_tag", None) is None


def _types(grouped: Sequence[tuple[FeatureView, list[str]]]) -> dict[str, ValueType]:
    types: dict[str, ValueType] = {}
    for table, names in grouped:
        called: str = table.projection.name_to_use()  # type: ignore[no-untyped-call]
        for field in table.features:
            if field.name in names:
                kind = field.dtype.to_value_type()
                types |= {field.name: kind, f"{called}__{field.name}": kind}
    return types
