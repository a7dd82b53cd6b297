"""What a run has seen so far: counted batch by batch, whatever the number of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from feature_store.definitions.validation import Reasons
from feature_store.errors import ValidationFailed
from feature_store.ingest.batches import RawTable

UNSEEN_SHOWN = 5


@dataclass
class RunStats:
    """Counts of rows, of refused ones with their reasons, and of unseen words."""

    rows: int = 0
    bad: int = 0
    held_back: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    first_bad: str = ""
    first_reason: str = ""
    unseen: Counter[str] = field(default_factory=Counter)
    failing: set[str] = field(default_factory=set)
    newest_event: np.datetime64 | None = None

    def add(self, table: RawTable, refused: Reasons, failing: Mapping[str, int]) -> None:
        """Count a batch.

        Parameters
        ----------
        refused
            Why rows of it are bad, by place.
        failing
            Features that have a bad value.
        """
        if refused and not self.bad:
            first = min(refused)
            line = table.batch.row_numbers[first]
            self.first_bad = f"{table.batch.source} line {line}: {refused[first]}"
            self.first_reason = f"row {table.batch.ordinals[first]}, {refused[first]}"
        self.rows += len(table)
        self.bad += len(refused)
        self.kinds.update(map(_kind, refused.values()))
        self.unseen.update(table.unseen)
        self.failing.update(failing)
        good = ~table.held_back
        good[list(refused)] = False
        self.held_back += len(table) - len(refused) - int(good.sum())
        if good.any():
            newest = table.times[good].max()
            older = self.newest_event is not None and newest <= self.newest_event
            self.newest_event = self.newest_event if older else newest

    def refuse_too_many(self, max_bad_share: float, tolerated: int = 0) -> None:
        """Raise when more than the allowed share of rows is bad, and more than are tolerated.

        Raises
        ------
        ValidationFailed
            With the share and the commonest reasons.
        """
        if self.bad <= max(max_bad_share * self.rows, tolerated):
            return
        common = "; ".join(f"{why} ({n:,} rows)" for why, n in self.kinds.most_common(3))
        raise ValidationFailed(
            f"{self.bad:,} of {self.rows:,} rows are bad ({self.bad / self.rows:.1%}), at most "
            f"{max_bad_share:.1%} are allowed; nothing was written. Reasons: {common}. "
            f"First: {self.first_reason}. Mend the source, or raise 'max_bad_share'."
        )

    def findings(self) -> list[str]:
        """What a person should know about the rows: one line each, none when all is well."""
        lines = []
        if self.bad:
            lines.append(f"{self.bad:,} rows are quarantined; the first is {self.first_bad}")
        if self.held_back:
            lines.append(
                f"{self.held_back:,} rows are held back: their time has not come; the next run "
                "looks again"
            )
        for word, n in self.unseen.most_common(UNSEEN_SHOWN):
            lines.append(f"{n:,} rows hold the unseen category {word}; it gets the code of unseen")
        return lines


def _kind(reason: str) -> str:
    """The kind of a reason: "age is -3, expected …" and "age is -4, expected …" are one."""
    return f"{reason.split(' is ', maxsplit=1)[0]}: {reason.rsplit(', ', 1)[-1]}"
