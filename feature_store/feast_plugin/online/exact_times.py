"""Times to the microsecond in answers whose messages hold whole seconds.

Feast's message of a time has seconds alone, and `OnlineResponse.to_dict` is made from messages.
While a request is answered, what is cut off is noted beside them, and put back for Python clients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from feast.online_response import OnlineResponse

from feature_store.definitions.exact import ExactValue
from feature_store.feast_plugin.field_values import seconds_of

Times = Mapping[str, Sequence[ExactValue]]
"""Column of an answer to its times."""
_noted: ContextVar[dict[str, Sequence[ExactValue]] | None] = ContextVar("noted", default=None)


class ExactResponse(OnlineResponse):
    """An answer of Feast's with times to the microsecond.

    Parameters
    ----------
    response
        The answer, made from messages.
    times
        What was noted while it was made.
    """

    def __init__(self, response: OnlineResponse, times: Times) -> None:
        super().__init__(response.proto, response._feature_types)  # noqa: SLF001
        self._times = times

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """The answer by column."""
        return with_times(super().to_dict(include_event_timestamps), self._times)


@contextmanager
def noted_times() -> Iterator[Times]:
    """Collect what `note_times` is told within the block."""
    times: dict[str, Sequence[ExactValue]] = {}
    token = _noted.set(times)
    try:
        yield times
    finally:
        _noted.reset(token)


def note_times(label: str, times: Sequence[ExactValue]) -> None:
    """Note the times of a column of the answer that is being made."""
    noted = _noted.get()
    if noted is not None:
        noted[label] = times


def with_times(answer: dict[str, Any], times: Times) -> dict[str, Any]:
    """An answer by column, with the noted times where it holds their whole seconds."""
    for label, noted in times.items():
        shown = answer.get(label)
        if shown is not None and len(shown) == len(noted):
            answer[label] = [
                _finer(second, time) for second, time in zip(shown, noted, strict=True)
            ]
    return answer


def _finer(second: datetime | None, time: ExactValue) -> datetime | None:
    if second is None or not isinstance(time, datetime):
        return second
    return time if seconds_of(second) == seconds_of(time) else second
