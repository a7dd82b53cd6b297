"""The feature pipeline: raw rows in, validated features out to both stores.

python pipelines/feature_pipeline.py --config configs/feature_config.yaml --mode batch
python pipelines/feature_pipeline.py --mode incremental
python pipelines/feature_pipeline.py --mode backfill --start 2023-01-01 --end 2023-02-01
python pipelines/feature_pipeline.py --mode stream
python pipelines/feature_pipeline.py --mode stream --from kafka://broker1:9092,broker2:9092/topic
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import Debug, Stopwatch, done, new_app, note, run
from configs.section import utc_time
from configs.settings import ROOT, load_settings
from feature_store import versions
from feature_store.connect import (
    activity_writer,
    offline_store,
    online_store,
    profile_writer,
    raw_source,
)
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.compute import compute
from feature_store.ingest.materialize import materialize
from feature_store.ingest.staging import Staging
from feature_store.ingest.watermarks import Watermark
from pipelines.feature_modes import (
    Mode,
    interval,
    parse_mode,
    rebuild_activity,
    refuse_until_empty,
    report_checks,
    report_nothing,
    report_progress,
    stream_origin,
)
from pipelines.stream_pipeline import run_stream

DEFAULT_CONFIG = ROOT / "configs" / "feature_config.yaml"
MODES = f"[{'|'.join(Mode)}]"
app = new_app()


@app.command()
def feature_pipeline(
    config: Annotated[Path, typer.Option(help="The feature settings (YAML).")] = DEFAULT_CONFIG,
    mode: Annotated[
        Mode,
        typer.Option(
            parser=parse_mode,
            metavar=MODES,
            help="All rows; new ones; a range; or events as they come.",
        ),
    ] = Mode.batch,
    start: Annotated[
        datetime | None, typer.Option(parser=utc_time, help="First event time of a backfill.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(parser=utc_time, help="Event time before which it ends.")
    ] = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Stop a stream when no event is left to apply.")
    ] = False,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from", help="Where events of a stream come from: redis, or kafka://BROKERS/TOPIC."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Compute, validate and store the features of raw rows.

    batch: all rows. incremental: those that are new since the watermark, which moves after both
    stores are written. backfill: rows whose events are from --start to before --end, anew.
    stream: changes and events of users as they come, until SIGTERM: out of Redis Streams, or of a
    topic of Kafka (--from; `stream.origin` of the settings).

    Rows that are already stored unchanged are not stored again, so a second run adds nothing.
    Bad rows go to the table `quarantine` with their reason; more than `max_bad_share` of them
    stop the run before anything is written. A run that ends early can be run again.
    """
    during = interval(mode, start, end)
    refuse_until_empty(mode, until_empty)
    settings = load_settings({"feature": config}, **stream_origin(mode, origin))
    if mode is Mode.stream:
        run_stream(settings, until_empty=until_empty)
        return
    source, stopwatch, now = raw_source(settings), Stopwatch(), datetime.now(UTC)
    offline, online = offline_store(settings), online_store(settings)
    watermark = Watermark(offline.postgres, MODEL_VIEW.schema, source.name)
    before = watermark.position()
    reading = source.read(before if mode is Mode.incremental else None)

    with offline.postgres.transaction() as connection:
        staging = Staging(connection, MODEL_VIEW.schema, MODEL_VIEW.entity)
        stats = compute(
            *(reading, staging, MODEL_VIEW, settings.feature, during, stopwatch, now),
            offline.vocabularies,
        )
        if not stats.rows:
            report_nothing(mode, during, before)
        else:
            tolerated = settings.feature.tolerated_bad_rows if mode is Mode.incremental else 0
            stats.refuse_too_many(settings.feature.max_bad_share, tolerated)
            report_checks(stats, len(MODEL_VIEW.schema), stopwatch)

            versions.start_fill(offline, online, MODEL_VIEW.entity)
            stored = staging.store()
            stopwatch.spend("store")
            done("Written to offline store (PostgreSQL)", stopwatch.spent["store"])
            note(f"{stored.added:,} rows are new or changed, {stored.known:,} were stored already")

            keys = None if mode is Mode.batch else stored.keys
            if changed := profile_writer(settings).reconcile(keys):
                note(f"{changed:,} rows follow from profile changes")
            materialize(offline, online, stored.keys, datetime.now(UTC))
            versions.switch(offline, online, settings.feature.max_bad_share)
            done("Synced to online store (Redis)", stopwatch.lap())

    if mode is not Mode.incremental:
        rebuild_activity(offline, activity_writer(settings), during)
    if during is None:
        if not watermark.advance(before, reading.position):
            note("another run has moved the watermark meanwhile; it stays there")
        report_progress(before, reading.position, stats, datetime.now(UTC))


if __name__ == "__main__":
    run(app)
