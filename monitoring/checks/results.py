"""A check that has nothing to say, and why: an answer of its own, and no error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """What could not be checked.

    Parameters
    ----------
    check
        Name of the check.
    reason
        Why, and what to do about it if anything.
    """

    check: str
    reason: str
