"""``append-events``, ``dead-letters`` and ``stream-status``: the stream of events from outside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime

from configs.output import Answer, Table
from configs.settings import Settings
from feature_store import connect
from feature_store.errors import InvalidEvent
from feature_store.stream.dead_letters import DeadLetter, DeadLetters
from feature_store.stream.events import fields_of_json
from feature_store.stream.progress import StatusBoard


def append_events(lines: Iterable[str], settings: Settings) -> Answer:
    """Append one event a line; a line that is no JSON object ends it, those before are in.

    Raises
    ------
    InvalidEvent
        Naming the line.
    """
    stream = connect.event_stream(settings)
    appended = stream.append_fields(_entries(lines))
    backlog = stream.backlog()
    data = {"appended": appended, "backlog": backlog}
    return Answer(data, [Table("", ("appended", "backlog"), [(appended, backlog)])])


def dead_letters(most: int, settings: Settings) -> Answer:
    """The newest dead letters, and how many there are."""
    letters = _dead_letters(settings)
    count, newest = letters.count(), letters.newest(most)
    rows = [(each.id, each.time, each.tries, each.reason, _shown(each)) for each in newest]
    columns = ("id", "given up", "tries", "reason", "event") if rows else ()
    return Answer(
        {"count": count, "dead_letters": [_facts(each) for each in newest]},
        [Table(f"{count:,} dead letters", columns, rows)],
    )


def replay(letter_id: str, settings: Settings) -> Answer:
    """Append dead letters to the events again."""
    replayed = _dead_letters(settings).replay(letter_id)
    return Answer({"replayed": replayed}, [Table("", ("replayed",), [(replayed,)])])


def stream_status(settings: Settings, now: datetime) -> Answer:
    """How each consumer is, what waits and what could not be applied."""
    client = connect.redis_client(settings, settings.feature.online.write_deadline_ms)
    statuses = StatusBoard(client, settings.feature.project).read()
    backlog = connect.event_stream(settings).backlog()
    count = _dead_letters(settings).count()
    columns = ("consumer", "age", "events/s", "applied", "duplicates", "held back", "delay ms", "")
    rows = [
        (
            *(each.consumer, now - each.at, each.events_per_s, each.applied, each.duplicates),
            *(each.held_back, each.delay_ms, each.problem),
        )
        for each in statuses
    ]
    return Answer(
        {
            "backlog": backlog,
            "dead_letters": count,
            "consumers": [vars(each) for each in statuses],
        },
        [Table(f"backlog {backlog:,}, dead letters {count:,}", columns if rows else (), rows)],
    )


def _entries(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield fields_of_json(line.strip())
            except InvalidEvent as error:
                raise InvalidEvent(
                    f"Line {number}: {error} Some of the lines before it are in. Mend it and "
                    "append all again: an event counts once."
                ) from None


def _dead_letters(settings: Settings) -> DeadLetters:
    client = connect.redis_client(settings, settings.feature.online.write_deadline_ms)
    return DeadLetters(client, settings.feature.project)


def _facts(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "time": letter.time,
        "tries": letter.tries,
        "reason": letter.reason,
        "event": _texts(letter),
    }


def _shown(letter: DeadLetter) -> str:
    return json.dumps(_texts(letter), ensure_ascii=False)


def _texts(letter: DeadLetter) -> dict[str, str]:
    return {
        name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
        for name, value in letter.fields.items()
    }
