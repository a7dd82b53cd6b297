"""Batch inference that is killed, resumed, or run twice: the complete output or none."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.artifact.artifact import open_artifact
from pipelines.batch import folders
from pipelines.batch.errors import OutputUnusable
from pipelines.batch.folders import Folder
from pipelines.batch.manifest import OutputFile, manifest_json
from pipelines.batch.output import Output, verified
from pipelines.batch.plan import DeployedModel, Plan
from pipelines.batch.request import BatchRequest, new_plan
from tests.worlds.batch import BatchWorld, manifest, partition, predictions
from tests.worlds.serving import now

Capsys = pytest.CaptureFixture[str]
LIMIT_S = 120
USERS = 30_000


@pytest.fixture
def wanted(batch: BatchWorld) -> list[object]:
    """Work that takes some seconds: each row is explained."""
    path = batch.features("many.parquet", USERS)
    return ["--input", path, "--chunk-rows", 500, "--explain", 1, "--output", batch.output]


def killed(batch: BatchWorld, arguments: Sequence[object], chunks: int = 4) -> list[Path]:
    """Kill a run when some chunks are finished; give their receipts."""
    process = batch.start(*arguments)
    deadline = time.monotonic() + LIMIT_S
    while len(found := list(batch.output.glob(".*/receipts/chunk*"))) < chunks:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return found


def ended(batch: BatchWorld, capsys: Capsys, *arguments: object) -> str:
    run = batch.ended(*arguments, capsys=capsys)
    assert run.code == 0, run.err
    return run.out


def test_a_killed_run_shows_nothing_and_is_resumed_from_its_chunks(
    batch: BatchWorld, capsys: Capsys, wanted: list[object]
) -> None:
    logged_before = len(batch.world.stored_predictions())
    finished = killed(batch, [*wanted, "--log"])
    assert [path.name for path in batch.output.iterdir() if path.name.startswith("date=")] == []
    times = {path: path.stat().st_mtime_ns for path in finished}
    plan = json.loads(next(batch.output.glob(".*/plan.json")).read_text())

    printed = ended(batch, capsys, *wanted, "--log", "--resume")
    before = int(printed.split(" of 60 chunks were finished before")[0].split()[-1])
    assert before >= len(times)
    frame = predictions(batch.output)
    assert frame["user_id"].to_list() == list(range(1, USERS + 1))
    assert frame["scored_at"].unique().to_list()[0].isoformat() == plan["scored_at"]
    values = np.resize(batch.world.matrix.values, (USERS, batch.world.matrix.values.shape[1]))
    assert np.array_equal(frame["probability"].to_numpy(), batch.scorer.predict(values))
    logged = [row["user_id"] for row in batch.world.stored_predictions()[logged_before:]]
    assert sorted(logged) == list(range(1, USERS + 1))


def test_a_killed_run_leaves_the_earlier_output_as_it_was(
    batch: BatchWorld, capsys: Capsys, wanted: list[object]
) -> None:
    ended(batch, capsys, "--limit", 7, "--output", batch.output)
    killed(batch, wanted)
    [place] = batch.output.glob("date=*")
    assert len(verified(str(place))) == 1
    assert len(pl.read_parquet(f"{place}/*.parquet")) == 7
    printed = ended(batch, capsys, "--limit", 9, "--output", batch.output)
    assert "is thrown away" in printed
    assert len(predictions(batch.output)) == 9


def test_other_work_is_not_resumed(batch: BatchWorld, capsys: Capsys, wanted: list[object]) -> None:
    killed(batch, wanted, chunks=1)
    other = batch.ended(*wanted, "--resume", "--limit", 5, capsys=capsys)
    assert (other.code, other.err.count("\n")) == (1, 1)
    assert "had --limit None, not 5" in other.err
    batch.features("many.parquet", USERS - 1)
    changed = batch.ended(*wanted, "--resume", capsys=capsys)
    assert "is not what it was when the unfinished run" in changed.err
    assert list(batch.output.glob(".*/receipts/*"))


def test_nothing_to_resume_is_no_error(batch: BatchWorld, capsys: Capsys) -> None:
    printed = ended(batch, capsys, "--resume", "--limit", 5, "--output", batch.output)
    assert "nothing to resume" in printed
    assert len(predictions(batch.output)) == 5


def test_two_runs_do_not_write_the_same_output(batch: BatchWorld, capsys: Capsys) -> None:
    batch.output.mkdir()
    output = Output(Folder.of(str(batch.output), {}), "date=2026-01-01")
    with output.hold():
        second = batch.ended("--output", batch.output, capsys=capsys)
    assert second.code == 1
    assert "Another run is writing" in second.err


def begun(output: Output, plan: Plan) -> list[OutputFile]:
    """Write the chunks of a plan, the first of them twice, as a retried task does."""
    output.begin(plan)
    facts = {"rows": 10, "without_features": 0, "positive": 1, "histogram": (10,)}
    output.add(0, b"first attempt", checksum=1, **facts)
    return [
        output.add(index, f"chunk {index}".encode(), checksum=checksum, **facts)
        for index, checksum in enumerate([1, 2, 3])
    ]


@pytest.fixture
def plan(batch: BatchWorld) -> Plan:
    """A plan of three chunks."""
    artifact = open_artifact(batch.world.artifacts.folder / "1" / "model")
    model = DeployedModel("income-xgb-v1", 1, "", artifact.digest, 1, artifact.fingerprint, 0.5)
    request = BatchRequest((str(batch.features("few.parquet", 30)),), chunk_rows=10)
    made = new_plan(request, batch.world.settings, model, artifact, now())
    return replace(made, checksum=6)


def test_a_chunk_that_was_done_twice_is_there_once(batch: BatchWorld, plan: Plan) -> None:
    output = Output(Folder.of(str(batch.output), {}), plan.partition)
    receipts = begun(output, plan)
    assert [*output.finished_files(plan).values()] == receipts
    output.publish(plan, manifest_json(plan, receipts, "local"))
    files = sorted(path.name for path in partition(batch.output).glob("part-*"))
    assert files == sorted(receipt.file for receipt in receipts)


def test_a_damaged_chunk_is_not_finished(batch: BatchWorld, plan: Plan) -> None:
    output = Output(Folder.of(str(batch.output), {}), plan.partition)
    receipts = begun(output, plan)
    (Path(output.data.path) / receipts[1].file).write_bytes(b"chunk")
    assert list(output.finished_files(plan, is_checked=True)) == [0, 2]


def test_rows_that_are_missing_or_doubled_are_not_published(batch: BatchWorld, plan: Plan) -> None:
    output = Output(Folder.of(str(batch.output), {}), plan.partition)
    receipts = begun(output, plan)
    for wrong in (receipts[:2], [receipts[0], *receipts], [*receipts[:2], receipts[1]]):
        with pytest.raises(OutputUnusable, match="expected 30 with"):
            manifest_json(plan, wrong, "local")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_output_takes_the_place_of_another(
    batch: BatchWorld, plan: Plan, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    output = Output(Folder.of(str(batch.output), {}), plan.partition)
    for _ in range(2):
        receipts = begun(output, plan)
        output.publish(plan, manifest_json(plan, receipts, "local"))
    assert len(verified(str(partition(batch.output)))) == 3
    assert manifest(batch.output)["run"] == plan.id


def test_a_run_that_died_after_the_rename_is_tidied_up(
    batch: BatchWorld, plan: Plan, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(Folder.of(str(batch.output), {}), plan.partition)
    receipts = begun(output, plan)
    monkeypatch.setattr(Output, "tidy", lambda self: None)
    output.publish(plan, manifest_json(plan, receipts, "local"))
    monkeypatch.undo()
    assert output.is_published(plan)
    printed = ended(batch, capsys, "--resume", "--dry-run", "--output", batch.output)
    assert "nothing to resume" in printed
    assert len(verified(str(partition(batch.output)))) == 3


def test_another_run_that_took_over_is_not_overwritten(batch: BatchWorld, plan: Plan) -> None:
    output = Output(Folder.of(str(batch.output), {}), plan.partition)
    receipts = begun(output, plan)
    output.begin(replace(plan, limit=29))
    with pytest.raises(OutputUnusable, match="Another run writes"):
        output.publish(plan, manifest_json(plan, receipts, "local"))


def test_a_reader_notices_what_was_altered(batch: BatchWorld, capsys: Capsys) -> None:
    ended(batch, capsys, "--limit", 30, "--chunk-rows", 10, "--output", batch.output)
    place = partition(batch.output)
    part = sorted(place.glob("part-*"))[1]
    content = part.read_bytes()
    part.write_bytes(content[:-1] + b"x")
    with pytest.raises(OutputUnusable, match="missing or altered"):
        verified(str(place))
    part.unlink()
    with pytest.raises(OutputUnusable, match="missing or altered"):
        verified(str(place))
