"""How answers are shown: rich tables on a terminal, aligned text in a pipe, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Cell = object
NOTHING = "–"
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@dataclass(frozen=True)
class Table:
    """A titled table; columns that hold numbers only are aligned to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Display:
    """What a command answers: for programs, and for people.

    Parameters
    ----------
    data
        What ``--json`` prints: mappings, lists, texts, numbers, times, None.
    tables
        The same for people.
    """

    data: object
    tables: Sequence[Table]


def show(answer: Display, *, as_json: bool) -> None:
    """Print an answer on standard output."""
    if as_json:
        print(json.dumps(answer.data, indent=2, ensure_ascii=False, default=_plain))
    elif sys.stdout.isatty():
        _show_rich(answer.tables)
    else:
        print("\n\n".join(map(as_text, answer.tables)))


def as_text(table: Table) -> str:
    """A table as aligned text.

    Examples
    --------
    >>> print(as_text(Table("Pets", ("name", "legs"), [("cat", 4), ("ant", None)])))
    Pets
    name  legs
    cat      4
    ant      –
    """
    cells = [[text(cell) for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *cells, strict=True)]
    right = [_is_numeric(table, place) for place in range(len(widths))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(table.columns), *cells]
    ]
    return "\n".join([*([table.title] if table.title else []), *lines])


def text(cell: Cell) -> str:
    """One value as people read it.

    Examples
    --------
    >>> text(0.123456789), text(48842), text(timedelta(days=3, hours=4)), text(True), text(None)
    ('0.123457', '48,842', '3 d 4 h', 'yes', '–')
    """
    if cell is None or cell != cell:
        return NOTHING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1e6 else f"{cell:,.6g}"
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return duration(cell) if isinstance(cell, timedelta) else str(cell)


def duration(age: timedelta) -> str:
    """An age in its two largest units."""
    left, parts = int(age.total_seconds()), list[str]()
    for unit, seconds in _UNITS:
        if left >= seconds or (unit == "s" and not parts):
            parts.append(f"{left // seconds} {unit}")
            left %= seconds
    return " ".join(parts[:2])


def _show_rich(tables: Sequence[Table]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    console = Console()
    for table in tables:
        shown = RichTable(title=escape(table.title) or None, title_justify="left")
        for place, column in enumerate(table.columns):
            justify = "right" if _is_numeric(table, place) else "left"
            shown.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in table.rows:
            shown.add_row(*(escape(text(cell)) for cell in row))
        console.print(shown)


def _is_numeric(table: Table, place: int) -> bool:
    values = [row[place] for row in table.rows if row[place] is not None]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"{type(value).__name__} has no JSON form")
