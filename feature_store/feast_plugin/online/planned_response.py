"""The answer to a planned request: columns of Python values, and Feast's message on demand."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import _populate_result_rows_from_columnar as fill_given

from feature_store.feast_plugin.online.exact_times import Times, with_times
from feature_store.feast_plugin.online.planned_views import spread
from feature_store.feast_plugin.online.planning import Plan
from feature_store.feast_plugin.online.reading import Replies, Wanted, mark_nulls
from feature_store.feast_plugin.online.request_keys import KEY_KINDS, RequestKeys


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
        self.answers = [view.answer(keys.of[view.features.entity], replies) for view in plan.views]

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
        for answer in self.answers:
            features, places = answer.view.features, answer.keys.destinations()
            wanted = Wanted(features.table, features.names, places, len(self.keys))
            wanted.fill(answer.rows(), response, self.plan.full_names, False)
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
        for found in self.answers:
            labels, columns = found.view.features.labels, found.columns()
            if found.keys.spread is not None:
                columns = [spread(found.keys, column) for column in columns]
            if not include_event_timestamps:
                answer |= zip(labels, columns, strict=True)
                continue
            seconds = spread(found.keys, found.seconds)
            for label, column in zip(labels, columns, strict=True):
                answer[label] = column
                answer[label + TIMESTAMP_POSTFIX] = list(seconds)
        return answer

    @property
    def _times(self) -> Times:
        """The exact columns of times, by label."""
        return {
            label: spread(found.keys, column)
            for found in self.answers
            if found.view.timestamps
            for label, column in zip(found.view.features.labels, found.columns(), strict=True)
            if label in found.view.timestamps
        }
