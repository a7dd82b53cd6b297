"""What a check gives (a report, a skip with its reason, or a failure), and a pass as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from monitoring.checks.serving_models import ServingModels


@dataclass(frozen=True)
class CheckReport(ABC):
    """What a check found."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line for people."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return asdict(self) | {"summary": self.summary}


@dataclass(frozen=True)
class Skipped:
    """What could not be checked: an answer of its own, and no error.

    Parameters
    ----------
    check
        Name of the check.
    reason
        Why, and what to do about it if anything.
    """

    check: str
    reason: str


@dataclass(frozen=True)
class Failed:
    """A check that ended with an error: it says nothing about what it checks."""

    check: str
    reason: str


CheckOutcome = CheckReport | Skipped | Failed


@dataclass(frozen=True)
class PassResult:
    """What one pass found.

    Parameters
    ----------
    as_of
        The end of all windows.
    serving
        What served then; None before the first deployment.
    outcomes
        Check to what it found.
    """

    as_of: datetime
    serving: ServingModels | None
    outcomes: Mapping[str, CheckOutcome]
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[Failed, ...]:
        """Checks that ended with an error."""
        return tuple(each for each in self.outcomes.values() if isinstance(each, Failed))

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each check, and one line of what it says."""
        for check, outcome in self.outcomes.items():
            if isinstance(outcome, Skipped):
                yield check, f"skipped: {outcome.reason}"
            elif isinstance(outcome, Failed):
                yield check, f"failed: {outcome.reason}"
            else:
                yield check, outcome.summary

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {
            check: {"skipped": outcome.reason}
            if isinstance(outcome, Skipped)
            else {"failed": outcome.reason}
            if isinstance(outcome, Failed)
            else outcome.to_json()
            for check, outcome in self.outcomes.items()
        }
