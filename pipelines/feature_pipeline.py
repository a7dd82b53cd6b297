"""The feature pipeline: raw rows in, validated features out to both stores.

python pipelines/feature_pipeline.py --config configs/feature_config.yaml --mode batch
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import Debug, Stopwatch, done, new_app, note, run
from configs.settings import ROOT, load_settings
from feature_store import ingest, validation, versions
from feature_store.connect import offline_store, online_store
from feature_store.engine import Engine
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.sources.files import read_rows

DEFAULT_CONFIG = ROOT / "configs" / "feature_config.yaml"
app = new_app()


class Mode(StrEnum):
    """Ways to run the pipeline."""

    batch = "batch"


@app.command()
def feature_pipeline(
    config: Annotated[Path, typer.Option(help="The feature settings (YAML).")] = DEFAULT_CONFIG,
    mode: Annotated[Mode, typer.Option(help="batch: read and write every row.")] = Mode.batch,
    debug: Debug = False,
) -> None:
    """Compute, validate and store the features of every raw row.

    Rows that are already stored unchanged are not stored again, so a second run adds nothing.
    Bad rows go to the table `quarantine` with their reason; more than `max_bad_share` of them
    stop the run before anything is written.
    """
    settings, watch = load_settings({"feature": config}), Stopwatch()
    source = settings.feature.source
    offline, online = offline_store(settings), online_store(settings)
    watch.lap()

    raw = ingest.parse(
        list(read_rows(source, ROOT)), MODEL_VIEW, source, settings.feature.event_time
    )
    done(f"Loaded {len(raw):,} rows", watch.lap())

    matrix = ingest.engineer(raw, Engine(MODEL_VIEW))
    done(f"Engineered {len(matrix.schema)} features", watch.lap())

    refused, failing = validation.check_features(matrix.schema, matrix.values)
    refused |= raw.reasons
    validation.refuse_too_many(refused, len(raw), settings.feature.max_bad_share)
    features, labels = ingest.good_rows(raw, matrix, refused)
    valid = len(matrix.schema) - len(failing)
    done(f"Validated {valid}/{len(matrix.schema)} features", watch.lap())
    for line in ingest.findings(raw, refused):
        note(line)

    created = datetime.now(UTC)
    versions.start_fill(offline, online, MODEL_VIEW.entity)
    offline.quarantine(MODEL_VIEW.name, ingest.quarantined_rows(raw, source, refused))
    added = offline.append(features, MODEL_VIEW.entity, created)
    offline.append_labels(labels, created)
    done("Written to offline store (PostgreSQL)", watch.lap())
    note(f"{added:,} rows are new or changed, {len(features) - added:,} were stored already")

    online.write(features, created)
    versions.switch(offline, online, settings.feature.max_bad_share)
    done("Synced to online store (Redis)", watch.lap())


if __name__ == "__main__":
    run(app)
