"""A plan is carried out: what is left of it is scored by an engine, and the whole is published."""

from __future__ import annotations

from enum import StrEnum

from configs.command_line import Stopwatch, done, note, progress
from configs.errors import FTIError
from models.artifact.artifact import ModelArtifact
from monitoring.log.batch_log import BatchLog
from pipelines.batch.errors import InputUnusable, RunUnfinished
from pipelines.batch.local_engine import run_local
from pipelines.batch.manifest import Totals, manifest_json
from pipelines.batch.output import Output
from pipelines.batch.plan import Plan
from pipelines.batch.spark_engine import run_spark
from pipelines.batch.worker import Job, Worker


class EngineName(StrEnum):
    """Where chunks are scored."""

    local = "local"
    spark = "spark"


def carry_out(
    job: Job,
    artifact: ModelArtifact,
    engine: EngineName,
    watch: Stopwatch,
    *,
    workers: int | None,
    master: str | None,
) -> Totals:
    """Score what is left of a plan, and publish the whole.

    Raises
    ------
    InputUnusable
        If rows cannot be used: what was written aside is gone.
    RunUnfinished
        If anything else failed: what is finished is kept.
    OutputUnusable
        If the output cannot be written, or its rows are not those of the plan.
    """
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
        finished = output.finished(plan, is_checked=True)
        note(f"{len(finished)} of {len(plan.chunks)} chunks were finished before")
        return set(finished)
    if current is not None:
        note(f"an unfinished run of {current.scored_at:%Y-%m-%d %H:%M} UTC is thrown away")
    output.discard()
    output.begin(plan)
    return set()
