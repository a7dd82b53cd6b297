"""How far reading by a cursor column has come, and from where the next reading starts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from configs.sources import Cursor
from feature_store.errors import SourceError
from feature_store.sources.port import Position

CursorValue = datetime | int


class CursorProgress:
    """The largest cursor value that was seen, and not later than now.

    A row from the future is read, but moves nothing: all that came before its time would
    otherwise be taken for read.

    Parameters
    ----------
    config
        The cursor column, None for a source that is read as a whole each time.
    after
        Where an earlier reading ended.
    now
        Gives the time.

    Raises
    ------
    SourceError
        If the earlier reading went by another column.
    """

    def __init__(
        self, config: Cursor, after: Position | None, now: Callable[[], datetime] | None = None
    ) -> None:
        self.column = config.cursor_column
        self.lookback = config.lookback
        self._now = now or (lambda: datetime.now(UTC))
        if after is not None and after["column"] != self.column:
            raise SourceError(
                f"The watermark is of the cursor column '{after['column']}', the settings name "
                f"'{self.column}'. Read everything once: --mode batch."
            )
        value = after["value"] if after else None
        self._largest = parsed_cursor(value) if value is not None else None
        self._start, self._held = self._largest, list[CursorValue | None]()

    @property
    def since(self) -> CursorValue | None:
        """Rows from here on, included, are to be read; None for all."""
        if isinstance(self._largest, datetime):
            return self._largest - timedelta(seconds=self.lookback)
        return None if self._largest is None else self._largest - int(self.lookback)

    def saw(self, value: CursorValue) -> None:
        """Note the cursor of a row, or the largest one of many.

        Raises
        ------
        SourceError
            If times and numbers are mixed.
        """
        if isinstance(value, datetime):
            zone = value.tzinfo
            now = self._now() if zone else self._now().astimezone(UTC).replace(tzinfo=None)
            value = min(value, now)
        try:
            is_larger = self._largest is None or value > self._largest  # type: ignore[operator]
        except TypeError as error:
            raise SourceError(
                f"The cursor column '{self.column}' was {self._largest!r} and is now {value!r}. "
                "Read everything once: --mode batch."
            ) from error
        if is_larger:
            self._largest = value

    def hold_back(self, smallest: CursorValue | None) -> None:
        """Let rows with this cursor or a larger one come again; None is where reading began."""
        self._held.append(smallest)

    @property
    def position(self) -> Position:
        """Where reading has come; not beyond rows that are held back."""
        reached = self._largest
        if self._held:
            known = [value for value in self._held if value is not None]
            is_known = len(known) == len(self._held)
            reached = min([*known, reached]) if is_known else self._start  # type: ignore[type-var]
        value = reached.isoformat() if isinstance(reached, datetime) else reached
        return {"column": self.column, "value": value}


def parsed_cursor(value: Any) -> CursorValue:
    """A cursor out of JSON, a text or a database: a time or a whole number.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> parsed_cursor("2026-01-05T10:00:00Z")
    datetime.datetime(2026, 1, 5, 10, 0, tzinfo=datetime.timezone.utc)
    >>> parsed_cursor("17")
    17
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  a date has no zone
    text = str(value).strip()
    return int(text) if text.lstrip("-").isdigit() else datetime.fromisoformat(text)
