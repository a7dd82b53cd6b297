"""The inference pipeline for many: rows in, predictions as partitioned Parquet out.

python pipelines/inference_pipeline.py
python pipelines/inference_pipeline.py --input users.parquet --output predictions --as-of 2024-01-01
python pipelines/inference_pipeline.py --engine spark --input 's3://bucket/users/*.parquet'
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from configs.command_line import Debug, Stopwatch, done, new_app, note, run
from configs.section import utc_time
from configs.settings import Settings, load_settings
from pipelines.batch.execution import EngineName, execute_plan
from pipelines.batch.manifest import Totals, summary
from pipelines.batch.plan import CHUNK_ROWS
from pipelines.batch.request import (
    BatchRequest,
    find_unfinished_plan,
    job_of,
    new_plan,
    parse_places,
    planned_model,
    resolve_model,
)
from pipelines.batch.spark_engine import refuse_without_spark
from pipelines.batch.worker import Job

app = new_app()


@app.command()
def inference_pipeline(
    engine: Annotated[
        EngineName, typer.Option(help="The cores of this machine, or a Spark cluster.")
    ] = EngineName.local,
    input: Annotated[  # noqa: A002 - the name of the option
        list[str] | None,
        typer.Option(
            help="Parquet or CSV: a file, folder, glob or s3://…, of entity ids, raw attributes or "
            "whole features. May be given several times; 'all' or nothing for all users."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Folder or s3://… of the output; var/batch when not given.")
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Such as income-xgb-v1; the champion when not given.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(parser=utc_time, help="Features of events before this time; now by default."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the chunks that an earlier run finished.")
    ] = False,
    log: Annotated[
        bool, typer.Option("--log", help="Write the predictions to the prediction log too.")
    ] = False,
    explain: Annotated[
        int, typer.Option(min=0, help="Add the N largest contributions to each prediction.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at model and input, and say what would be done.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that score; one a core by default.")
    ] = None,
    master: Annotated[
        str | None, typer.Option(help="The Spark cluster; this machine's cores by default.")
    ] = None,
    chunk_rows: Annotated[int, typer.Option(min=1, help="Rows of one file.")] = CHUNK_ROWS,
    debug: Debug = False,
) -> None:
    """Score many rows in bulk.

    The output is a folder date=YYYY-MM-DD with a manifest. It becomes visible whole or not at all,
    and replaces an earlier one of that day; a run that ends early can go on with --resume.
    """
    settings, stopwatch = load_settings(), Stopwatch()
    if engine is EngineName.spark:
        refuse_without_spark()
    request = BatchRequest(
        parse_places(input), model_version, as_of, limit, explain, log, chunk_rows
    )
    place = output or str(settings.var_dir / "batch")
    plan = find_unfinished_plan(place, request) if resume else None
    if plan is not None:
        artifact = planned_model(settings, plan.model)
        done(f"Loaded {plan.model.label}", stopwatch.lap())
    else:
        model, artifact = resolve_model(settings, model_version)
        done(f"Loaded {model.label}", stopwatch.lap())
        plan = new_plan(request, settings, model, artifact, datetime.now(UTC))
        done(f"Found {plan.rows:,} rows: {plan.kind} in {len(plan.chunks)} chunks", stopwatch.lap())
    if dry_run:
        note(f"would be written to {place}/{plan.partition}; nothing was, for --dry-run")
        return
    job = job_of(plan, place, settings)
    with job.output.hold():
        totals = execute_plan(job, artifact, engine, stopwatch, workers=workers, master=master)
    report(job, totals, settings)


def report(job: Job, totals: Totals, settings: Settings) -> None:
    """Show what was predicted."""
    plan = job.plan
    if plan.is_logged:
        note(f"{plan.rows:,} predictions are in the prediction log")
    for line in summary(totals, settings.deployment.prediction_texts, plan.model.threshold):
        note(line)


if __name__ == "__main__":
    run(app)
