"""``append-events``, ``dead-letters`` and ``stream-status``: the stream of events from outside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from configs.command_line import AsJson, Debug
from configs.output import Display, Table, show
from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.errors import InvalidEvent
from feature_store.stream.events import fields_of_json
from feature_store.stream.kafka.event_stream import KafkaEventStream, PartitionLag
from feature_store.stream.port import DeadLetter
from feature_store.stream.progress import ConsumerStatus, StatusBoard

commands = typer.Typer()

Origin = Annotated[
    str | None,
    typer.Option("--from", help="redis, or kafka://BROKERS/TOPIC; else what the settings name."),
]


@commands.command(
    epilog="Examples: … append-events events.jsonl · … append-events - < events.jsonl"
)
def append_events(
    file: Annotated[typer.FileText, typer.Argument(help="One event a line, as JSON; - for stdin.")],
    to: Annotated[
        str | None,
        typer.Option(help="redis, or kafka://BROKERS/TOPIC; else what the settings name."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Append events to the stream; whether they can be applied is checked by its consumers."""
    stream = connect.event_stream(_settings(to))
    appended = stream.append_fields(_entries(file))
    backlog = stream.backlog()
    data = {"appended": appended, "backlog": backlog}
    show(Display(data, [Table("", tuple(data), [tuple(data.values())])]), as_json=as_json)


@commands.command(epilog="Examples: … dead-letters --json · … dead-letters --replay all")
def dead_letters(
    replay: Annotated[
        str | None, typer.Option(help="Append this one, or all, to the events again.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the newest first.")] = 20,
    origin: Origin = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the events that could not be applied, with the reason; or try them again."""
    letters = connect.dead_letters(_settings(origin))
    if replay:
        replayed = letters.replay(replay)
        answer = Display({"replayed": replayed}, [Table("", ("replayed",), [(replayed,)])])
    else:
        count, newest = letters.count(), [_facts(each) for each in letters.newest(limit)]
        rows = [
            (
                *(each["id"], each["time"], each["tries"], each["reason"]),
                json.dumps(each["event"], ensure_ascii=False),
            )
            for each in newest
        ]
        columns = ("id", "given up", "tries", "reason", "event") if rows else ()
        answer = Display(
            {"count": count, "dead_letters": newest},
            [Table(f"{count:,} dead letters", columns, rows)],
        )
    show(answer, as_json=as_json)


@commands.command(epilog="Example: python -m feature_store stream-status")
def stream_status(origin: Origin = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show the consumers of the stream, its backlog (by partition) and its dead letters."""
    settings, now = _settings(origin), datetime.now(UTC)
    client = connect.redis_client(settings, settings.feature.online.write_deadline_ms)
    statuses = StatusBoard(client, settings.feature.project).read(now)
    stream = connect.event_stream(settings)
    lags = stream.lags() if isinstance(stream, KafkaEventStream) else None
    backlog = stream.backlog() if lags is None else sum(each.lag for each in lags)
    count = connect.dead_letters(settings).count()
    data = {
        "backlog": backlog,
        "dead_letters": count,
        "consumers": [vars(each) for each in statuses],
    }
    tables = [_consumers(f"backlog {backlog:,}, dead letters {count:,}", statuses, now)]
    if lags is not None:
        data["partitions"] = [{**vars(each), "lag": each.lag} for each in lags]
        tables.append(_partitions(lags, now))
    show(Display(data, tables), as_json=as_json)


def _consumers(title: str, statuses: Sequence[ConsumerStatus], now: datetime) -> Table:
    columns = ("consumer", "age", "events/s", "applied", "duplicates", "held back", "delay ms", "")
    rows = [
        (
            *(each.consumer, now - each.at, each.events_per_s, each.applied, each.duplicates),
            *(each.held_back, each.delay_ms, each.problem),
        )
        for each in statuses
    ]
    return Table(title, columns if rows else (), rows)


def _partitions(lags: Sequence[PartitionLag], now: datetime) -> Table:
    columns = ("partition", "done to", "end", "lag", "read by", "changed ago")
    rows = [
        (
            *(each.partition, each.next_offset, each.end, each.lag, each.owner),
            None if each.changed_at is None else now - each.changed_at,
        )
        for each in lags
    ]
    return Table("partitions", columns, rows)


def _entries(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The fields of each line; a line that is no JSON object ends it, those before are in."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield fields_of_json(line.strip())
            except InvalidEvent as error:
                raise InvalidEvent(
                    f"Line {number}: {error} Some of the lines before it are in. Mend it and "
                    "append all again: an event counts once."
                ) from None


def _settings(origin: str | None) -> Settings:
    return load_settings(feature={} if origin is None else {"stream": {"origin": origin}})


def _facts(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "time": letter.time,
        "tries": letter.tries,
        "reason": letter.reason,
        "event": {
            name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
            for name, value in letter.fields.items()
        },
    }
