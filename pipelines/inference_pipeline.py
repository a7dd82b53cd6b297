"""The inference pipeline for many: the newest features of every user in, a Parquet file out.

python pipelines/inference_pipeline.py
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import Debug, Stopwatch, done, new_app, progress, run
from configs.settings import load_settings, utc_time
from feature_store.connect import offline_store
from feature_store.feature_definitions import MODEL_VIEW
from models.bulk_scorer import bulk_scorer
from serving.batch import ScoredBy, score, write_predictions
from serving.connect import arm_to_serve, model_loader

app = new_app()
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@app.command()
def inference_pipeline(
    output: Annotated[
        Path | None, typer.Option(help="Folder for the predictions; var/batch when not given.")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Such as income-xgb-v1; the champion when not given.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="Use features of events before this time; now when not given."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Score all users of the offline store in bulk and write them to Parquet."""
    settings, now, watch = load_settings(), datetime.now(UTC), Stopwatch()
    arm = arm_to_serve(settings, model_version)
    artifact = model_loader(settings).artifact(arm)
    scorer = bulk_scorer(artifact)
    done(f"Loaded {arm.label}", watch.lap())

    features = offline_store(settings).latest(
        artifact.feature_schema, MODEL_VIEW.entity, LONG_AGO, utc_time(as_of) if as_of else now
    )
    done(f"Retrieved the newest features of {len(features):,} users", watch.lap())

    with progress("Scoring", len(features), "rows") as advance:
        probabilities = score(features.values, scorer, advance)
    seconds = watch.lap()
    done(f"Scored {len(features):,} rows at {len(features) / seconds:,.0f} rows/s", seconds)

    by = ScoredBy(
        arm.label, scorer.engine, artifact.threshold, settings.deployment.prediction_texts, now
    )
    folder = output or settings.var_dir / "batch"
    path = write_predictions(folder, features, MODEL_VIEW.entity, probabilities, by)
    done(f"Written to {path}", watch.lap())


if __name__ == "__main__":
    run(app)
