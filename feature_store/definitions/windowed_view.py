"""A view of windowed counts, sums and means of events: declared once, its names made by rule."""

from __future__ import annotations

from collections.abc import Mapping

from feature_store.definitions.entity import Entity
from feature_store.definitions.names import LONGEST_VIEW, refuse_name
from feature_store.definitions.schema import LARGEST_EXACT_INTEGER, FeatureDefinition, FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.definitions.window_plan import ActivityPlan, microseconds
from feature_store.errors import DefinitionError

COUNT_RANGE = (0, LARGEST_EXACT_INTEGER)


class ActivityView:
    """Windowed aggregates of the events of one entity, as of the time at which they are read.

    A feature is named ``{what}_{aggregation}_{window}``.

    Parameters
    ----------
    name, entity, tags
        As in `FeatureView`.
    windows
        Length of each window to the hop in which its tail moves: ``{"7d": "1d"}``.
    ttl
        Age of an entity's newest event beyond which it reads as absent.
    version
        Raise it when the code that makes the values changes what they mean.

    Examples
    --------
    >>> view = ActivityView("visits", "shop_id", windows={"1d": "1h", "7d": "1d"}, ttl="30d")
    >>> view.count("visits", description="Visits")
    >>> view.schema.names
    ('visits_count_1d', 'visits_count_7d')
    >>> view.schema.features[1].description
    'Visits in the last 7 days.'
    """

    def __init__(
        self,
        name: str,
        entity: Entity | str,
        *,
        windows: Mapping[str, str],
        ttl: str,
        tags: Mapping[str, str] | None = None,
        version: int = 1,
    ) -> None:
        for span in (*windows, *windows.values(), ttl):
            microseconds(span)  # refuses what is no span of time
        refuse_name("View", name, LONGEST_VIEW)
        self.name = name
        self.key = Entity.of(entity)
        self.entity = self.key.name
        self.windows = dict(windows)
        self.ttl_text = ttl
        self.version = version
        self.tags = dict(tags or {})
        self.definitions: dict[str, FeatureDefinition] = {}

    def count(self, what: str, *, description: str, event_type: str = "any") -> None:
        """Define how many events there were, of one type or of any."""
        self._add(what, "count", description, event_type)

    def sum(self, what: str, *, description: str, unit: str, event_type: str = "any") -> None:
        """Define the sum of the amounts; 0 where there were none."""
        self._add(what, "sum", description, event_type, unit)

    def mean(self, what: str, *, description: str, unit: str, event_type: str = "any") -> None:
        """Define the mean of the amounts; missing where there were none."""
        self._add(what, "mean", description, event_type, unit)

    @property
    def schema(self) -> FeatureSchema:
        """The schema of all features."""
        return FeatureSchema(self.name, tuple(self.definitions.values()), key=self.key.digested)

    @property
    def plan(self) -> ActivityPlan:
        """What is counted and added up, in which windows."""
        return ActivityPlan(self.schema)

    def _add(
        self, what: str, aggregation: str, description: str, event_type: str, unit: str = ""
    ) -> None:
        is_count = aggregation == "count"
        for window, hop in self.windows.items():
            name = f"{what}_{aggregation}_{window}"
            refuse_name("Feature", name)
            if name in self.definitions:
                raise DefinitionError(
                    f"Feature '{name}' is defined twice in '{self.name}'. Rename one."
                )
            self.definitions[name] = FeatureDefinition(
                name=name,
                kind="integer" if is_count else "number",
                description=f"{description} in the last {_in_words(window)}.",
                unit=unit,
                valid_range=COUNT_RANGE if is_count else None,
                tags=self.tags,
                version=self.version,
                rule={
                    "aggregation": aggregation,
                    "of": "events" if is_count else "amount_cents",
                    "event_type": event_type,
                    "window": window,
                    "hop": hop,
                    "ttl": self.ttl_text,
                },
            )
        ActivityPlan(self.schema)  # refuses windows that cannot be tiled


View = FeatureView | ActivityView
"""Any view: it has a name, an entity, tags and a schema."""


def _in_words(window: str) -> str:
    number, unit = window[:-1], {"m": "minute", "h": "hour", "d": "day"}[window[-1]]
    return f"{number} {unit}s" if number != "1" else unit
