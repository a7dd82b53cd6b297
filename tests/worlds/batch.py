"""A world in which batches are scored: a deployed model, a filled offline store, files of input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from configs import command_line
from configs.settings import ROOT
from feature_store.connect import offline_store
from feature_store.feature_definitions import MODEL_VIEW
from models.bulk_scorer import BulkScorer
from pipelines import inference_pipeline
from pipelines.batch.output import verified
from tests.worlds.serving import World, now

NAMES = MODEL_VIEW.schema.names
RAW = [feature.name for feature in MODEL_VIEW.raw_features]


@dataclass
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@dataclass
class BatchWorld:
    """Runs the pipeline in a world whose offline store knows 300 users."""

    world: World
    folder: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @cached_property
    def scorer(self) -> BulkScorer:
        """The model that is deployed."""
        return BulkScorer(self.world.artifacts.folder / "1" / "model" / "model.ubj")

    def fill(self) -> None:
        """Store the features of the world's users."""
        offline_store(self.world.settings).append(self.world.matrix, MODEL_VIEW.entity, now())

    def environment(self) -> Mapping[str, str]:
        return {**self.world.environment(), "NO_COLOR": "1", **self.extra}

    def ended(self, *arguments: object, capsys: pytest.CaptureFixture[str]) -> Ended:
        """Run the command in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["inference_pipeline", *map(str, arguments)])
            for name, value in self.environment().items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                command_line.run(inference_pipeline.app)
        shown = capsys.readouterr()
        return Ended(int(ended.value.code or 0), shown.out, shown.err)

    def start(
        self, *arguments: object, by: Sequence[str] = (sys.executable,)
    ) -> subprocess.Popen[str]:
        """Run the command in a process of its own."""
        return subprocess.Popen(
            [*by, "pipelines/inference_pipeline.py", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def features(self, name: str, n: int, first: int = 1, **write: Any) -> Path:
        """A Parquet file of features of ``n`` users, made from those of the world."""
        rows = np.resize(self.world.matrix.values, (n, len(NAMES)))
        columns = {name: rows[:, place] for place, name in enumerate(NAMES)}
        path = self.folder / name
        keys = np.arange(first, first + n, dtype=np.int64)
        pl.DataFrame({"user_id": keys, **columns}).write_parquet(path, **write)
        return path

    def attributes(self, n: int) -> pl.DataFrame:
        """Raw attributes of the first users, as people write them."""
        rows = [MODEL_VIEW.schema.decode(row) for row in self.world.matrix.values[:n]]
        frame = pl.DataFrame([{name: row[name] for name in RAW} for row in rows])
        return frame.insert_column(0, pl.Series("user_id", range(1, n + 1)))

    def ids(self, name: str, keys: list[int]) -> Path:
        path = self.folder / name
        pl.DataFrame({"user_id": keys}).write_csv(path)
        return path


def partition(output: Path) -> Path:
    """The one partition of an output, in which nothing else lies."""
    [only] = list(output.iterdir())
    assert only.name.startswith("date=")
    return only


def predictions(output: Path) -> pl.DataFrame:
    """What a reader of a folder sees, after its manifest has been verified."""
    place = partition(output)
    frame = pl.read_parquet(f"{place}/*.parquet", hive_partitioning=False)
    assert len(verified(str(place))) == len(list(place.glob("*.parquet")))
    return frame.sort("user_id")


def manifest(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((partition(output) / "_manifest.json").read_text())
    return content
