"""The engine of one machine: one thread reads ahead, one a core scores and writes.

The libraries leave Python's lock while they read, join, predict and write, so threads keep all
cores busy. As many chunks are in memory as there are threads, and one that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pipelines.batch.kinds import Kind
from pipelines.batch.manifest import Receipt
from pipelines.batch.plan import Chunk
from pipelines.batch.worker import Worker, cores


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
    is_stored = worker.plan.kind in (Kind.entities, Kind.everybody)
    waits = is_stored or worker.plan.is_logged or not worker.output.root.is_local
    threads = threads or cores() * (2 if waits else 1)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="batch")
    running: set[Future[Receipt]] = set()
    try:
        for chunk, rows in worker.tables(chunks):
            running.add(pool.submit(worker.run, chunk, rows))
            if len(running) > threads:
                running = _told(running, on_rows)
        while running:
            running = _told(running, on_rows)
    finally:
        pool.shutdown(cancel_futures=True)


def _told(running: set[Future[Receipt]], on_rows: Callable[[int], object]) -> set[Future[Receipt]]:
    """Wait until a chunk is finished; give those that are not."""
    finished, unfinished = wait(running, return_when=FIRST_COMPLETED)
    for each in finished:
        on_rows(each.result().rows)
    return unfinished
