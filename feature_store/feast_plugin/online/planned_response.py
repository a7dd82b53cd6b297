"""The answer to a planned request: columns of Python values, and Feast's message on demand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import _populate_result_rows_from_columnar as fill_given

from feature_store.definitions.entity import PartType
from feature_store.feast_plugin.online.exact_times import Times, with_times
from feature_store.feast_plugin.online.planning import Plan, PlannedView
from feature_store.feast_plugin.online.reading import (
    ReadRow,
    Replies,
    Wanted,
    mark_nulls,
    read_row,
)
from feature_store.feast_plugin.online.request_keys import Keys, RequestKeys
from feature_store.online.row_codec import Row

KEY_KINDS: dict[PartType, str] = {"integer": "int64_val", "string": "string_val"}
"""Which of Feast's values the parts of a key are."""


class PlannedResponse(OnlineResponse):
    """An answer that makes Feast's message only when somebody asks for it.

    Parameters
    ----------
    plan
        What was asked.
    keys
        Of whom, row by row.
    replies
        What Redis held, by key.
    """

    def __init__(self, plan: Plan, keys: RequestKeys, replies: Replies) -> None:
        self.plan, self.keys = plan, keys
        self._feature_types = plan.types
        self.answers = [_answer(view, keys.of[view.entity], replies) for view in plan.views]

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:  # type: ignore[override]
        """The answer as Feast's message, each value with its status."""
        response, kinds = GetOnlineFeaturesResponse(results=[]), self.plan.key_types
        fill_given(
            response,
            {
                name: [Value(**{KEY_KINDS[kinds[name]]: value}) for value in column]
                for name, column in self.keys.given.items()
            },
        )
        for view, answer in zip(self.plan.views, self.answers, strict=True):
            wanted = Wanted(view.table, view.names, answer.keys.destinations(), len(self.keys))
            wanted.fill(answer.rows(view), response, self.plan.full_names, False)
        mark_nulls(response)
        return response

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """The answer by column: `OnlineResponse.to_dict`, without a message in between."""
        if "proto" in self.__dict__:  # its owner may have changed it
            return with_times(super().to_dict(include_event_timestamps), self._times)
        answer: dict[str, Any] = {}
        for name, given in self.keys.given.items():
            answer[name] = list(given)
            if include_event_timestamps:
                answer[name + TIMESTAMP_POSTFIX] = [0] * len(given)
        for view, found in zip(self.plan.views, self.answers, strict=True):
            columns, seconds = found.columns(view), found.spread(found.seconds)
            for label, column in zip(view.labels, columns, strict=True):
                answer[label] = found.spread(column)
                if include_event_timestamps:
                    answer[label + TIMESTAMP_POSTFIX] = list(seconds)
        return answer

    @property
    def _times(self) -> Times:
        """The exact columns of times, by label."""
        return {
            label: found.spread(column)
            for view, found in zip(self.plan.views, self.answers, strict=True)
            if view.timestamps
            for label, column in zip(view.labels, found.columns(view), strict=True)
            if label in view.timestamps
        }


@dataclass(frozen=True)
class ViewAnswer:
    """The rows of one view, one a key.

    Parameters
    ----------
    keys
        Whose they are.
    found
        Rows as they are stored; None where there is none.
    expired
        Places of those that are older than the view's TTL.
    """

    keys: Keys
    found: list[Row | None]
    expired: frozenset[int]

    def spread(self, values: list[Any]) -> list[Any]:
        """Values of each key as values of each row of the request."""
        places = self.keys.spread
        return values if places is None else [values[place] for place in places]

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
        return columns if len(there) == n else [_widened(column, there, n) for column in columns]

    def rows(self, view: PlannedView) -> list[ReadRow]:
        """The rows as Feast wants them: `ViewRead.rows`."""
        return [
            read_row(view.codec, view.names, row, place in self.expired)
            for place, row in enumerate(self.found)
        ]


def _answer(view: PlannedView, keys: Keys, replies: Replies) -> ViewAnswer:
    prefix, store = view.store.prefix, view.store
    found = store.decode(keys.unique, [replies[f"{prefix}{key}"] for key in keys.unique])
    if store.ttl is None:
        return ViewAnswer(keys, found, frozenset())
    old = (place for place, row in enumerate(found) if row is not None and store.expired(row))
    return ViewAnswer(keys, found, frozenset(old))


def _widened(column: list[Any], places: list[int], n: int) -> list[Any]:
    whole: list[Any] = [None] * n
    for place, value in zip(places, column, strict=True):
        whole[place] = value
    return whole
