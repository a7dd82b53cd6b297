"""The inference pipeline for many: rows in, predictions as partitioned Parquet out.

python pipelines/inference_pipeline.py
python pipelines/inference_pipeline.py --input users.parquet --output predictions --as-of 2024-01-01
python pipelines/inference_pipeline.py --engine spark --input 's3://bucket/users/*.parquet'
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from configs.command_line import Debug, Stopwatch, done, new_app, note, progress, run
from configs.errors import FTIError
from configs.settings import Settings, load_settings, utc_time
from models.artifact import ModelArtifact
from monitoring.batch_log import BatchLog
from pipelines.batch.errors import InputUnusable, RunUnfinished
from pipelines.batch.local_engine import run_local
from pipelines.batch.manifest import Totals, manifest_json
from pipelines.batch.output import Output
from pipelines.batch.plan import CHUNK_ROWS, Plan
from pipelines.batch.preparation import Asked, chosen_model, job_of, listed, new_plan, planned_model
from pipelines.batch.resumption import started
from pipelines.batch.spark_engine import refuse_without_spark, run_spark
from pipelines.batch.summary import summary
from pipelines.batch.worker import Job, Worker

app = new_app()


class EngineName(StrEnum):
    """Where chunks are scored."""

    local = "local"
    spark = "spark"


@app.command()
def inference_pipeline(
    engine: Annotated[
        EngineName, typer.Option(help="The cores of this machine, or a Spark cluster.")
    ] = EngineName.local,
    input: Annotated[  # noqa: A002 - the name of the option
        list[str] | None,
        typer.Option(
            help="Parquet or CSV: a file, folder, glob or s3://…, of entity ids, raw attributes or "
            "whole features. May be given several times; 'all' or nothing for all users.",
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
    settings, watch = load_settings(), Stopwatch()
    if engine is EngineName.spark:
        refuse_without_spark()
    asked = Asked(listed(input), model_version, as_of, limit, explain, log, chunk_rows)
    place = output or str(settings.var_dir / "batch")
    plan = started(place, asked) if resume else None
    if plan is not None:
        artifact = planned_model(settings, plan.model)
        done(f"Loaded {plan.model.label}", watch.lap())
    else:
        model, artifact = chosen_model(settings, model_version)
        done(f"Loaded {model.label}", watch.lap())
        plan = new_plan(asked, settings, model, artifact, datetime.now(UTC))
        done(f"Found {plan.rows:,} rows: {plan.kind} in {len(plan.chunks)} chunks", watch.lap())
    if dry_run:
        note(f"would be written to {place}/{plan.partition}; nothing was, for --dry-run")
        return
    job = job_of(plan, place, settings)
    with job.output.held():
        totals = carry_out(job, artifact, engine, watch, workers=workers, master=master)
    report(job, totals, settings)


def carry_out(
    job: Job,
    artifact: ModelArtifact,
    engine: EngineName,
    watch: Stopwatch,
    *,
    workers: int | None,
    master: str | None,
) -> Totals:
    """Score what is left of a plan, and publish the whole."""
    plan, output = job.plan, job.output
    finished = begin(output, plan)
    left = [chunk for chunk in plan.chunks if chunk.index not in finished]
    rows = sum(chunk.rows for chunk in left)
    if plan.is_logged:
        BatchLog(job.offline.postgres).prepare()
    try:
        with progress("Scoring", rows, " rows") as advance:
            if engine is EngineName.spark:
                run_spark(job, artifact, left, advance, master)
            else:
                run_local(Worker(job, artifact), left, advance, workers)
    except InputUnusable:
        output.discard()
        raise
    except FTIError as error:
        kept = f"{output.count()} of {len(plan.chunks)} chunks are kept"
        raise RunUnfinished(f"{error} {kept}: run again with --resume.") from error
    seconds = watch.lap()
    done(f"Scored {rows:,} rows at {rows / seconds:,.0f} rows/s", seconds)
    receipts = [receipt for _, receipt in sorted(output.finished(plan).items())]
    output.publish(plan, manifest_json(plan, receipts, engine))
    done(f"Written to {output.final.shown}", watch.lap())
    return Totals.of(receipts)


def begin(output: Output, plan: Plan) -> set[int]:
    """Go on with a plan that was begun, or begin it; give the chunks that are finished."""
    current = output.plan()
    if current is not None and current.id == plan.id:
        finished = output.finished(plan)
        note(f"{len(finished)} of {len(plan.chunks)} chunks were finished before")
        return set(finished)
    if current is not None:
        note(f"an unfinished run of {current.scored_at:%Y-%m-%d %H:%M} UTC is thrown away")
    output.discard()
    output.begin(plan)
    return set()


def report(job: Job, totals: Totals, settings: Settings) -> None:
    """Show what was predicted."""
    plan = job.plan
    if plan.is_logged:
        note(f"{plan.rows:,} predictions are in the prediction log")
    for line in summary(totals, settings.deployment.prediction_texts, plan.model.threshold):
        note(line)


if __name__ == "__main__":
    run(app)
