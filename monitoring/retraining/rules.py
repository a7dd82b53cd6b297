"""What a request for a new model is, and when one must be withheld: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from configs.monitoring_config import RetrainingConfig

Status = Literal[
    "requested", "training", "judging", "experiment", "promoted", "withdrawn", "refused", "failed"
]
OPEN: tuple[Status, ...] = ("requested", "training", "judging", "experiment")
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Request:
    """A retraining that was asked for.

    Parameters
    ----------
    alerts
        The alerts that ask for it; none when a person did.
    champion
        What served when it was asked for.
    data_start, data_end
        Half-open range of label times to learn from; a start of None is that of the settings. It
        is fixed here, so that a second attempt learns from the same rows.
    label
        The version that was trained, once it was.
    """

    request_id: int
    model_name: str
    reason: str
    alerts: tuple[str, ...]
    champion: str | None
    data_start: datetime | None
    data_end: datetime
    status: Status
    label: str | None
    requested_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Withheld:
    """Why no retraining was requested."""

    reason: str


@dataclass(frozen=True)
class Step:
    """Something that happened to a request, or kept one from being written."""

    request_id: int | None
    step: str
    detail: str
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)


def decide(
    config: RetrainingConfig, earlier: Sequence[Request], now: datetime, *, by_person: bool = False
) -> Withheld | None:
    """Say why a retraining must not be requested now; None when it may.

    A person may ask at any time, but never for two at once.

    Parameters
    ----------
    earlier
        All requests for the model, in any order.
    """
    if not config.enabled and not by_person:
        return Withheld("'monitoring.retraining.enabled' is false")
    for request in earlier:
        if request.status in OPEN:
            return Withheld(f"request {request.request_id} is open ({request.status})")
    if by_person or not earlier:
        return None
    last = max(request.requested_at for request in earlier)
    cool_at = last + timedelta(hours=config.cooldown_hours)
    if now < cool_at:
        return Withheld(
            f"the last one was at {last:%F %H:%M}; the next may be at {cool_at:%F %H:%M}"
        )
    this_week = sum(now - request.requested_at < WEEK for request in earlier)
    if this_week >= config.weekly_budget:
        return Withheld(f"{this_week} in seven days are as many as the budget allows")
    return None
