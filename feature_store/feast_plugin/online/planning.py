"""Online requests planned once: what Feast works out anew for each call is kept until it changes.

A plan belongs to the context that Feast itself keeps for (features, project, full names) and drops
when its registry is read again or its time is up; a plan is dropped with it. Of a planned request
remain one MGET, and columns of Python values; Feast's messages are made only for who asks for them.
Requests of other kinds (on-demand features, keys that are neither whole numbers nor texts) take
Feast's own way, and so do those for Feast to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feast import FeatureService, FeatureView
from feast.infra.registry.base_registry import BaseRegistry
from feast.utils import _get_cached_request_context as request_context
from feast.value_type import ValueType

from feature_store.definitions.entity import PartType
from feature_store.feast_plugin.identity import is_foreign, is_packed, known_view
from feature_store.feast_plugin.online.foreign_rows import ForeignRows
from feature_store.feast_plugin.online.planned_views import (
    PlannedFeatures,
    PlannedForeignView,
    PlannedView,
)
from feature_store.feast_plugin.online.request_keys import (
    KEY_TYPES,
    Identities,
    KeyBytes,
    KeyForm,
    RequestKeys,
    read_keys,
)
from feature_store.feast_plugin.online.stored_views import StoredViews

PLANS = 256
"""So many different requests are kept; beyond that all are planned anew."""


@dataclass(frozen=True)
class Plan:
    """What a request reads.

    Parameters
    ----------
    key_forms
        What makes the keys of each thing that the views are about.
    key_types
        The columns of the request that hold keys, and their types.
    types
        What Feast keeps beside an answer: feature to type, under both its names.
    """

    key_forms: list[KeyForm]
    key_types: dict[str, PartType]
    views: list[PlannedView | PlannedForeignView]
    full_names: bool
    types: dict[str, ValueType]

    @property
    def has_foreign(self) -> bool:
        """Whether it reads a view of the user's own."""
        return any(isinstance(view, PlannedForeignView) for view in self.views)

    def keys(self, rows: Any) -> RequestKeys | None:
        """The keys of a request; None where Feast's own way must look at them."""
        return read_keys(rows, self.key_forms, self.key_types)

    def redis_keys(self, keys: RequestKeys) -> list[str | bytes]:
        """The Redis keys to read, each once."""
        names = [
            view.redis_key(key)
            for view in self.views
            for key in keys.of[view.features.entity].unique
        ]
        return names if len(self.views) == 1 else list(dict.fromkeys(names))


class Plans:
    """The plans of one online store."""

    def __init__(self, stored: StoredViews) -> None:
        self._stored = stored
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
        _, on_demand, _, entity_types, _, grouped, _, request_data, has_no_entity = context
        if on_demand or request_data or has_no_entity:
            return None
        if not grouped or not all(_is_plain(table) for table, _ in grouped):
            return None
        by_view = [_key_form(table, entity_types) for table, _ in grouped]
        forms = list(dict.fromkeys(form for form in by_view if form is not None))
        if None in by_view:
            return None
        types = {name: KEY_TYPES[entity_types[name]] for form in forms for name in form.columns}
        views = [
            self._view(_features(table, names, full_names, forms.index(form)))
            for (table, names), form in zip(grouped, by_view, strict=True)
            if form is not None
        ]
        return Plan(forms, types, views, full_names, _types(grouped))

    def _view(self, features: PlannedFeatures) -> PlannedView | PlannedForeignView:
        table, stored = features.table, self._stored
        if is_foreign(table):
            return PlannedForeignView(features, ForeignRows(stored.project, table))
        codec = stored.codec(table)
        labels = dict(zip(features.names, features.labels, strict=True))
        return PlannedView(
            features,
            stored.store(table),
            codec,
            places=[codec.place(name) for name in features.names],
            timestamps=frozenset(labels[name] for name in codec.timestamps(features.names)),
        )


def _features(
    table: FeatureView, names: Sequence[str], full_names: bool, entity: int
) -> PlannedFeatures:
    called: str = table.projection.name_to_use()  # type: ignore[no-untyped-call]
    labels = [f"{called}__{name}" if full_names else name for name in names]
    return PlannedFeatures(table, list(names), labels, entity)


def _key_form(table: FeatureView, types: Mapping[str, ValueType]) -> KeyForm | None:
    """What makes a view's keys; None of types that Feast's own way must look at."""
    keys = {column.name: types.get(column.name) for column in table.entity_columns}
    known = {name: KEY_TYPES[kind] for name, kind in keys.items() if kind in KEY_TYPES}
    if len(known) < len(keys):
        return None
    if is_foreign(table):
        return KeyBytes(tuple(sorted(known.items())))
    entity = known_view(table).key
    fits = known == {part.name: part.type for part in entity.parts}
    return Identities(entity) if fits else None


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
