"""The Spark engine on a real cluster: the local engine's bits, and every row whatever dies."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from tests.pipelines.batch.spark_cluster import Cluster, spark_cluster
from tests.worlds.batch import BatchWorld, manifest, predictions

pytest.importorskip("pyspark")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed"),
]
LIMIT_S = 300
VARYING = ("scored_at",)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with spark_cluster(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster


def run(batch: BatchWorld, output: Path, *arguments: object, **how: Sequence[str]) -> str:
    """What a run prints that must end well."""
    process = batch.start("--output", output, *arguments, **how)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    return out


def both(
    batch: BatchWorld, *arguments: object, **how: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the local engine and Spark wrote for the same work."""
    local, spark = batch.folder / "local", batch.folder / "spark"
    run(batch, local, *arguments)
    run(batch, spark, "--engine", "spark", *arguments, **how)
    assert manifest(spark)["engine"] == "spark"
    return predictions(local).drop(VARYING), predictions(spark).drop(VARYING)


def test_spark_submit_gives_the_bits_of_the_local_engine(batch: BatchWorld) -> None:
    path = batch.folder / "people.csv"
    batch.attributes(300).fill_null("?").cast(pl.String).write_csv(path)
    batch.extra["PYSPARK_PYTHON"] = sys.executable  # an activated environment has it on the PATH
    submit = [str(Path(sys.executable).parent / "spark-submit"), "--master", "local[2]"]
    wanted = ["--input", path, "--chunk-rows", 30, "--explain", 2]
    local, spark = both(batch, *wanted, by=submit)
    assert len(local) == 300
    assert local.equals(spark)


def test_a_cluster_joins_features_out_of_postgresql(batch: BatchWorld, cluster: Cluster) -> None:
    local, spark = both(batch, "--chunk-rows", 40, "--log", "--master", cluster.url)
    assert len(local) == 300
    assert local.equals(spark)
    logged = [row["user_id"] for row in batch.world.stored_predictions()]
    assert sorted(logged) == sorted([*range(1, 301), *range(1, 301)])


def test_a_killed_task_and_a_killed_executor_are_made_good(
    batch: BatchWorld, cluster: Cluster
) -> None:
    batch.features("many.parquet", 30_000)
    wanted = ["--input", batch.folder / "many.parquet", "--chunk-rows", 500, "--explain", 1]
    output = batch.folder / "spark"
    process = batch.start(
        *("--output", output, "--engine", "spark", "--master", cluster.url), *wanted
    )
    finished = finished_chunks(output)
    until(lambda: len(finished()) >= 3, process)
    killed_python = cluster.python_workers()[0]
    os.kill(killed_python, signal.SIGKILL)
    so_far = len(finished())
    until(lambda: len(finished()) >= so_far + 3, process)
    [killed_executor] = cluster.executors()
    os.kill(killed_executor, signal.SIGKILL)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, out + err
    assert killed_executor not in cluster.executors()
    run(batch, batch.folder / "local", *wanted)
    found, expected = predictions(output), predictions(batch.folder / "local")
    assert found["user_id"].to_list() == list(range(1, 30_001))
    assert found.drop(VARYING).equals(expected.drop(VARYING))


def test_what_is_wrong_is_told_in_one_line(batch: BatchWorld, cluster: Cluster) -> None:
    frame = batch.attributes(50).cast({"age": pl.String})
    frame[30, "age"] = "old"
    frame.write_parquet(batch.folder / "bad.parquet")
    process = batch.start(
        *("--engine", "spark", "--master", cluster.url, "--output", batch.output),
        *("--input", batch.folder / "bad.parquet", "--chunk-rows", 10),
    )
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    told = [line for line in err.splitlines() if line.startswith("✗")]
    assert len(told) == 1
    assert "age is 'old', expected a number" in told[0]
    assert "Traceback" not in err
    assert not batch.output.exists()


def finished_chunks(output: Path) -> Callable[[], list[Path]]:
    return lambda: list(output.glob(".*/receipts/*"))


def until(is_so: Callable[[], bool], process: object) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline
        assert process.poll() is None  # type: ignore[attr-defined]
        time.sleep(0.02)
