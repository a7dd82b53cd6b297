"""Ways to run the feature pipeline, and what it says about a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from configs.command_line import Stopwatch, done, note, progress
from configs.errors import SettingsError
from feature_store import versions
from feature_store.errors import SourceError
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.batches import Interval
from feature_store.ingest.run_stats import RunStats
from feature_store.offline_store import OfflineStore
from feature_store.sources.port import Position, position_text
from feature_store.windows.writer import ActivityWriter


class Mode(StrEnum):
    """Ways to run the pipeline."""

    batch = "batch"
    incremental = "incremental"
    backfill = "backfill"
    stream = "stream"


def parse_mode(text: str) -> Mode:
    """Read a mode.

    Raises
    ------
    SettingsError
        If there is no such mode; the message names those that there are.
    """
    if text not in list(Mode):
        raise SettingsError(f"Mode '{text}' is not known. Known: {', '.join(Mode)}.")
    return Mode(text)


def interval(mode: Mode, start: datetime | None, end: datetime | None) -> Interval | None:
    """The event times to compute anew; None for all.

    Raises
    ------
    SettingsError
        If the times do not fit the mode or each other.
    """
    if mode is not Mode.backfill:
        if start is not None or end is not None:
            raise SettingsError(f"--start and --end are for --mode backfill, not {mode}.")
        return None
    if start is None or end is None:
        raise SettingsError("--mode backfill needs --start and --end, such as --start 2023-01-31.")
    if start >= end:
        raise SettingsError(f"--start {start:%F %T} must be before --end {end:%F %T}.")
    return Interval(start, end)


def refuse_until_empty(mode: Mode, until_empty: bool) -> None:
    """Refuse ``--until-empty`` where it has no meaning.

    Raises
    ------
    SettingsError
        If the mode is another one than ``stream``.
    """
    if until_empty and mode is not Mode.stream:
        raise SettingsError(f"--until-empty is for --mode stream, not {mode}.")


def stream_origin(mode: Mode, origin: str | None) -> dict[str, Any]:
    """Give the settings that ``--from`` stands for.

    Raises
    ------
    SettingsError
        If the mode is another one than ``stream``.
    """
    if origin is None:
        return {}
    if mode is not Mode.stream:
        raise SettingsError(f"--from is for --mode stream, not {mode}.")
    return {"feature": {"stream": {"origin": origin}}}


def rebuild_activity(
    offline: OfflineStore, writer: ActivityWriter, during: Interval | None
) -> None:
    """Make the online rows of windowed features anew out of the stored events, if there are any."""
    start, end = (None, None) if during is None else (during.start, during.end)
    users, stopwatch = writer.count_users(start, end), Stopwatch()
    if not users:
        return
    versions.start_fill(offline, writer.online, MODEL_VIEW.entity)
    with progress("Windows", users, " users") as advance:
        writer.rebuild(start, end, advance)
    if during is None:
        versions.switch(offline, writer.online, 0)
    done(f"Rebuilt the windows of {users:,} users with events", stopwatch.lap())


def report_checks(stats: RunStats, features: int, stopwatch: Stopwatch) -> None:
    """Say what was read and computed, and what is remarkable about it."""
    done(f"Loaded {stats.rows:,} rows", stopwatch.spent["load"])
    done(f"Engineered {features} features", stopwatch.spent["engineer"])
    valid = features - len(stats.failing)
    done(f"Validated {valid}/{features} features", stopwatch.spent["validate"])
    for line in stats.findings():
        note(line)


def report_nothing(mode: Mode, during: Interval | None, before: Position | None) -> None:
    """Say that there are no rows to write.

    Raises
    ------
    SourceError
        If all rows were asked for: then there should be some.
    """
    if during is not None:
        done(f"No row has its event from {during.start:%F %T} to {during.end:%F %T}")
    elif mode is Mode.incremental and before is not None:
        done(f"Nothing is new since the watermark: {position_text(before)}")
    else:
        raise SourceError("The source has no rows. See 'source' in the feature settings.")


def report_progress(
    before: Position | None, after: Position, stats: RunStats, now: datetime
) -> None:
    """Say how far the watermark has moved, and how late the newest row is."""
    note(f"watermark: {position_text(before)} → {position_text(after)}")
    if stats.newest_event is not None:
        note(f"newest event {_format(stats.newest_event)}, {_age(stats.newest_event, now)} ago")


def _format(moment: np.datetime64) -> str:
    return f"{np.datetime_as_string(moment, 's').replace('T', ' ')} UTC"


def _age(moment: np.datetime64, now: datetime) -> timedelta:
    """Whole seconds since a moment."""
    seconds = (np.datetime64(now.astimezone(UTC).replace(tzinfo=None)) - moment).astype("m8[s]")
    return timedelta(seconds=int(seconds.astype(int)))
