"""Which events have happened: the one rule for every way in, by one clock.

An event counts from the moment at which it has passed: a stored row never knows the future, or the
online row would hide all true ones until then, while history answers with them. Clocks differ, and
some things are announced, so an event that lies a little ahead is held back until its time has
come; one that lies further ahead is a mistake and refused.

==================  ===================================  ==============================
way in              a little ahead                       further ahead
==================  ===================================  ==============================
files, SQL, HTTP    read again until it has passed       quarantined
streams             held back, not acknowledged          dead letter
calls (Feast push)  refused: the caller is there to ask  refused
materialize         not taken yet                        never taken before its time
==================  ===================================  ==============================
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import InvalidEvent

Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class Horizon:
    """What is past, what is held back, and what is refused, at one moment.

    Parameters
    ----------
    now
        The moment, aware.
    max_ahead
        An event that lies further ahead is a mistake.

    Examples
    --------
    >>> noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    >>> horizon = Horizon(noon, timedelta(minutes=5))
    >>> times = np.array(["2026-01-05T11:59", "2026-01-05T12:05", "2030-01-01"], "M8[us]")
    >>> horizon.is_ahead(times).tolist(), horizon.is_too_far(times).tolist()
    ([False, True, True], [False, False, True])
    """

    now: datetime
    max_ahead: timedelta

    @property
    def latest(self) -> datetime:
        """The last moment of which an event is not refused."""
        return self.now + self.max_ahead

    def is_ahead(self, times: Times) -> NDArray[np.bool_]:
        """Which events ``(n,)`` have not passed: those of this very moment have not."""
        return times >= _naive(self.now)

    def is_too_far(self, times: Times) -> NDArray[np.bool_]:
        """Which events ``(n,)`` lie so far ahead that they are refused."""
        return times > _naive(self.latest)

    def refusal(self, time: datetime | np.datetime64, name: str = "event_timestamp") -> str:
        """Why an event that lies too far ahead is refused."""
        shown = time.isoformat() if isinstance(time, datetime) else f"{time}Z"
        minutes = self.max_ahead / timedelta(minutes=1)
        # Without the moment: a row that is read again is the same refusal.
        return f"{name} is {shown}, expected at most {minutes:g} minutes after now"


def refuse_future(times: Times, now: datetime, what: str) -> None:
    """Refuse events that have not passed, for callers who can hold them back themselves.

    Parameters
    ----------
    times
        datetime64 ``(n,)`` in UTC.
    what
        Names the rows in the message.

    Raises
    ------
    InvalidEvent
        Saying how many they are, and which is the first.
    """
    ahead = times >= _naive(now)
    if ahead.any():
        first = int(np.argmax(ahead))
        raise InvalidEvent(
            f"{int(ahead.sum()):,} of {len(times):,} {what} have not happened yet: row {first + 1} "
            f"is of {np.datetime64(times[first], 'us')}Z, and it is "
            f"{now.astimezone(UTC).isoformat(timespec='seconds')}. Nothing was written. Mend the "
            "times, or write these rows once they have passed."
        )


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
