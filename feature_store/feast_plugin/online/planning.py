"""Online requests planned once: what Feast works out anew for each call is kept until it changes.

A plan belongs to the context that Feast itself keeps for (features, project, full names) and drops
when its registry is read again or its time is up; a plan is dropped with it. Of a planned request
remain one MGET, and columns of Python values; Feast's messages are made only for who asks for them.
Requests of other kinds (on-demand features, keys that are neither whole numbers nor texts) take
Feast's own way, and so do those for Feast to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from feast import FeatureService, FeatureView
from feast.infra.registry.base_registry import BaseRegistry
from feast.utils import _get_cached_request_context as request_context
from feast.value_type import ValueType

from feature_store.definitions.entity import Entity, PartType
from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.feast_plugin.identity import is_foreign, is_packed, known_view
from feature_store.feast_plugin.online.request_keys import RequestKeys, key_types, read_keys
from feature_store.online_store import OnlineStore

PLANS = 256
"""So many different requests are kept; beyond that all are planned anew."""

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
    entity
        Place of what the view is about among the entities of the plan.
    """

    table: FeatureView
    store: OnlineStore
    codec: ValueCodec
    names: list[str]
    labels: list[str]
    places: list[int]
    timestamps: frozenset[str]
    entity: int


@dataclass(frozen=True)
class Plan:
    """What a request reads.

    Parameters
    ----------
    entities
        What the views are about, each once.
    key_types
        The columns of the request that hold keys, and their types.
    types
        What Feast keeps beside an answer: feature to type, under both its names.
    """

    entities: list[Entity]
    key_types: dict[str, PartType]
    views: list[PlannedView]
    full_names: bool
    types: dict[str, ValueType]

    def keys(self, rows: Any) -> RequestKeys | None:
        """The keys of a request; None where Feast's own way must look at them."""
        return read_keys(rows, self.entities, self.key_types)

    def redis_keys(self, keys: RequestKeys) -> list[str]:
        """The Redis keys to read, each once."""
        names = [
            f"{view.store.prefix}{key}"
            for view in self.views
            for key in keys.of[view.entity].unique
        ]
        return names if len(self.views) == 1 else list(dict.fromkeys(names))


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
        if on_demand or request_data or has_no_entity:
            return None
        if not grouped or not all(_is_plain(table) for table, _ in grouped):
            return None
        if any(is_foreign(table) for table, _ in grouped):
            return None
        entities = list(dict.fromkeys(known_view(table).key for table, _ in grouped))
        types = key_types(entities)
        if types is None:
            return None
        views = [self._view(table, names, full_names, entities) for table, names in grouped]
        return Plan(entities, types, views, full_names, _types(grouped))

    def _view(
        self, table: FeatureView, names: list[str], full_names: bool, entities: list[Entity]
    ) -> PlannedView:
        store, codec = self._opened(table)
        called: str = table.projection.name_to_use()  # type: ignore[no-untyped-call]
        labels = {name: f"{called}__{name}" if full_names else name for name in names}
        return PlannedView(
            table=table,
            store=store,
            codec=codec,
            names=list(names),
            labels=list(labels.values()),
            places=[codec.place(name) for name in names],
            timestamps=frozenset(labels[name] for name in codec.timestamps(names)),
            entity=entities.index(known_view(table).key),
        )


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
