"""The engine of a cluster: the chunks of the same plan, scored by the same worker in Spark tasks.

A task gets chunks, not rows: through ``mapInArrow`` come their numbers and go their receipts. It
reads, looks up, scores and writes by itself, as a thread of the local engine does, so that the
answers are the same to the bit, and rows never cross the boundary between Python and the JVM. What
a task wrote counts only through its receipt: one that is retried, or that runs twice, adds nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.settings import ROOT
from models.artifact.artifact import ModelArtifact, open_artifact
from pipelines.batch.errors import InputUnusable, RunUnfinished, SparkUnavailable
from pipelines.batch.plan import Chunk
from pipelines.batch.worker import Job, Worker, cores

if TYPE_CHECKING:
    import pyarrow as pa

OLDEST_JAVA = 17
RECEIPTS = "chunk int, rows bigint, problem string"
ROOMS = (
    *("configs", "infrastructure", "feature_store", "models", "monitoring", "serving"),
    "pipelines",
)
TASKS_PER_CORE = 4
"""Enough that cores end together, few enough that each reads its file in one go."""
TRIES = 4
QUIET = Path(__file__).with_name("log4j2.properties")
LOOK_EVERY_S = 0.5


def run_spark(
    job: Job,
    artifact: ModelArtifact,
    chunks: Sequence[Chunk],
    on_rows: Callable[[int], object],
    master: str | None = None,
) -> None:
    """Score chunks on a cluster; ``on_rows`` is told how many rows more are done.

    Parameters
    ----------
    master
        The cluster, such as ``spark://host:7077``; None for what ``spark-submit`` says, and the
        cores of this machine where it does not.

    Raises
    ------
    SparkUnavailable
        If there is no PySpark, no Java, or no cluster.
    InputUnusable, RunUnfinished
        If rows cannot be used, or a task failed for good.
    """
    refuse_without_spark()
    with _session(master) as spark, tempfile.TemporaryDirectory() as folder:
        context = spark.sparkContext
        archive = _pack_folder(artifact.path, Path(folder) / f"model-{artifact.digest[:16]}.zip")
        context.addArchive(f"{archive}#{archive.stem}")
        context.addPyFile(str(_pack_code(Path(folder) / "fti-code.zip")))
        tasks = min(len(chunks), context.defaultParallelism * TASKS_PER_CORE)
        planned = context.parallelize([(chunk.index,) for chunk in chunks], tasks)
        frame = spark.createDataFrame(planned, "chunk int")
        score = partial(score_chunks, job, archive.stem, artifact.digest)
        _follow(lambda: frame.mapInArrow(score, RECEIPTS).collect(), job, chunks, on_rows)


def score_chunks(
    job: Job, archive: str, digest: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Score the chunks that a Spark task is given by their numbers; give what became of them.

    What is wrong with the input is told and not raised: trying again would not help.
    """
    import pyarrow as pa

    worker = _worker(job.plan.id, archive, digest, lambda: job)
    for batch in batches:
        chunks = [job.plan.chunks[index] for index in batch.column(0).to_pylist()]
        try:
            for chunk, rows in worker.tables(chunks):
                receipt = worker.run(chunk, rows)
                yield pa.record_batch(
                    [pa.array([chunk.index], pa.int32()), [receipt.rows], pa.array([""])],
                    names=["chunk", "rows", "problem"],
                )
        except InputUnusable as error:
            yield pa.record_batch(
                [pa.array([-1], pa.int32()), [0], pa.array([str(error)])],
                names=["chunk", "rows", "problem"],
            )
            return


def refuse_without_spark() -> None:
    """Raise unless PySpark and a JVM for it are there.

    Raises
    ------
    SparkUnavailable
        If not.
    """
    try:
        import pyspark  # noqa: F401
    except ModuleNotFoundError as error:
        raise SparkUnavailable(
            "The Spark engine needs PySpark: uv pip install -r requirements-spark.txt. "
            "--engine local needs nothing."
        ) from error
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    needs = f"The Spark engine needs Java {OLDEST_JAVA} or newer"
    if not java or not Path(java).exists():
        where = f"JAVA_HOME is {home}, where there is none" if home else "none is on the PATH"
        raise SparkUnavailable(
            f"{needs}; {where}. Install it (apt-get install default-jre-headless), or use "
            "--engine local."
        )
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise SparkUnavailable(f"{needs}; {java} says: {' '.join(told.split()) or 'nothing'}.")


@cache
def _workers() -> dict[tuple[str, str], Worker]:
    """The worker of this process: Spark uses a Python process for many tasks."""
    return {}


def _worker(run: str, archive: str, digest: str, job: Callable[[], Job]) -> Worker:
    """What scores in this process; the model was unpacked once for all of its executor."""
    from pyspark import SparkFiles

    if (run, digest) not in _workers():
        _workers().clear()
        artifact = open_artifact(Path(SparkFiles.get(archive)), digest)
        _workers()[run, digest] = Worker(job(), artifact)
    return _workers()[run, digest]


@contextmanager
def _session(master: str | None) -> Iterator[Any]:
    """A session that is stopped at the end."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("fti batch inference")
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if master or not is_submitted:
        builder = builder.master(master or f"local[{cores()},{TRIES}]")
    if not is_submitted:
        quiet = f"-Dlog4j2.configurationFile=file:{QUIET}"
        builder = builder.config("spark.driver.extraJavaOptions", quiet)
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    try:
        spark = builder.getOrCreate()
    except (Py4JError, PySparkException, RuntimeError, OSError) as error:
        raise SparkUnavailable(f"Spark cannot be started: {_reason(error)}") from error
    try:
        yield spark
    finally:
        spark.stop()


def _follow(
    collect: Callable[[], list[Any]],
    job: Job,
    chunks: Sequence[Chunk],
    on_rows: Callable[[int], object],
) -> None:
    """Run a Spark action in a thread of its own, and tell what is finished meanwhile."""
    rows: list[Any] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def act() -> None:
        try:
            rows.extend(collect())
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            failures.append(error)
        finally:
            ended.set()

    before, told, total = job.output.count(), 0, sum(chunk.rows for chunk in chunks)
    threading.Thread(target=act, daemon=True).start()
    while not ended.wait(LOOK_EVERY_S):
        so_far = min((job.output.count() - before) * job.plan.chunk_rows, total)
        on_rows(so_far - told)
        told = so_far
    problems = [row["problem"] for row in rows if row["problem"]]
    if problems:
        raise InputUnusable(problems[0])
    if failures:
        raise RunUnfinished(f"A Spark task failed {TRIES} times: {_reason(failures[0])}")
    on_rows(total - told)


def _pack_folder(folder: Path, archive: Path) -> Path:
    """The files of a folder in one archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, path.name)
    return archive


def _pack_code(archive: Path) -> Path:
    """Our own code: executors must run what the driver runs."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for room in ROOMS:
            for path in sorted((ROOT / room).rglob("*")):
                if path.suffix in (".py", ".json", ".yaml"):
                    packed.write(path, path.relative_to(ROOT))
    return archive


def _reason(error: Exception) -> str:
    """What went wrong, out of the many lines of a JVM or of a task."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [
        line for line in lines if re.match(r"^[\w.]+\.(\w*Error|\w*Unavailable|\w*Unusable)", line)
    ]
    told = (ours or lines or [type(error).__name__])[0]
    return re.sub(r"^[\w.]+: ", "", told)[:500]
