"""A plan is carried out: what is left of it is scored by an engine, and the whole is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from enum import StrEnum

from configs.command_line import Stopwatch, done, note, progress
from configs.errors import FTIError
from models.artifact.artifact import ModelArtifact
from pipelines.batch.errors import InputUnusable, RunUnfinished
from pipelines.batch.manifest import OutputFile, Totals, manifest_json
from pipelines.batch.output import Output
from pipelines.batch.plan import Chunk, Plan
from pipelines.batch.spark_engine import run_spark
from pipelines.batch.worker import Job, Worker, cores


def run_local(
    worker: Worker,
    chunks: Sequence[Chunk],
    on_rows: Callable[[int], object],
    threads: int | None = None,
) -> None:
    """Score chunks; ``on_rows`` is told how many rows more are done.

    Parameters
    ----------
    threads
        How many score; None for one a core, and twice as many where they wait for PostgreSQL or S3.

    Raises
    ------
    FTIError
        The first error of a chunk; those that are being scored are finished.
    """
    waits = worker.plan.kind.is_stored or worker.plan.is_logged or not worker.output.root.is_local
    threads = threads or cores() * (2 if waits else 1)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batch")
    running: set[Future[OutputFile]] = set()
    try:
        for chunk, rows in worker.tables(chunks):
            running.add(pool.submit(worker.run, chunk, rows))
            if len(running) > threads:
                running = _collect_finished(running, on_rows)
        while running:
            running = _collect_finished(running, on_rows)
    finally:
        pool.shutdown(cancel_futures=True)


def _collect_finished(
    running: set[Future[OutputFile]], on_rows: Callable[[int], object]
) -> set[Future[OutputFile]]:
    """Wait until a chunk is finished; give those that are not."""
    finished, unfinished = wait(running, return_when=FIRST_COMPLETED)
    for each in finished:
        on_rows(each.result().rows)
    return unfinished


class EngineName(StrEnum):
    """Where chunks are scored."""

    local = "local"
    spark = "spark"


def execute_plan(
    job: Job,
    artifact: ModelArtifact,
    engine: EngineName,
    stopwatch: Stopwatch,
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
    seconds = stopwatch.lap()
    done(f"Scored {rows:,} rows at {rows / seconds:,.0f} rows/s", seconds)
    receipts = [receipt for _, receipt in sorted(output.finished_files(plan).items())]
    output.publish(plan, manifest_json(plan, receipts, engine))
    done(f"Written to {output.final.shown}", stopwatch.lap())
    return Totals.of(receipts)


def begin(output: Output, plan: Plan) -> set[int]:
    """Go on with a plan that was begun, or begin it; give the chunks that are finished."""
    current = output.plan()
    if current is not None and current.id == plan.id:
        finished = output.finished_files(plan, is_checked=True)
        note(f"{len(finished)} of {len(plan.chunks)} chunks were finished before")
        return set(finished)
    if current is not None:
        note(f"an unfinished run of {current.scored_at:%Y-%m-%d %H:%M} UTC is thrown away")
    output.discard()
    output.begin(plan)
    return set()
