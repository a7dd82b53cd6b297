"""Finding the events that cannot be applied among those that can."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from feature_store.errors import StoreUnavailable
from feature_store.stream.patience import Stopped, refuses_values

logger = logging.getLogger(__name__)

T = TypeVar("T")


def isolate(
    events: Sequence[T], apply: Callable[[Sequence[T]], int]
) -> tuple[int, dict[int, Exception]]:
    """Apply events together; where that fails, halve them until those are alone that fail.

    Returns
    -------
    new, failures
        How many had not been applied before, and what was raised, by place in ``events``.

    Raises
    ------
    StoreUnavailable
        If a store does not answer: that says nothing about the events.

    Examples
    --------
    >>> def apply(numbers):
    ...     return len([1 / n for n in numbers])
    >>> isolate([1, 2, 0, 4], apply)
    (3, {2: ZeroDivisionError('division by zero')})
    """
    try:
        return apply(events), {}
    except Stopped:
        raise
    # Whatever it is, the other events must go through; it is kept as the reason.
    except Exception as error:
        if isinstance(error, StoreUnavailable) and not refuses_values(error):
            raise
        if len(events) == 1:
            logger.warning("stream: an event failed: %s", error, exc_info=True)
            return 0, {0: error}
    half = len(events) // 2
    first, failed = isolate(events[:half], apply)
    second, failed_too = isolate(events[half:], apply)
    return first + second, failed | {half + place: why for place, why in failed_too.items()}
