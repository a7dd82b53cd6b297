"""The stages of dvc.yaml in a clean clone: run once, run when something changes, and shared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.settings import ROOT, Settings, load_settings
from feature_store.connect import online_store
from feature_store.ingest.feature_file import md5
from infrastructure import embedded
from models.connect import model_registry

pytestmark = [pytest.mark.full, pytest.mark.timeout(1500)]
STAGES = ["prepare", "features", "train", "evaluate", "batch"]


@dataclass(frozen=True)
class Clone:
    """A clone of this repository with a ``var`` of its own."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return load_settings(var_dir=self.folder / "var")

    def dvc(self, *arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "NO_COLOR": "1",
            },
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def ran(self, *arguments: str) -> list[str]:
        """The stages that a reproduction ran."""
        lines = self.dvc("repro", *arguments).splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage ")]

    def change(self, file: str, old: str, new: str) -> None:
        path = self.folder / "configs" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def json(self, *arguments: str) -> Any:
        return json.loads(self.dvc(*arguments, "--json"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clean clone with settings with which a training takes a moment; all stages have run."""
    clone = Clone(cloned(ROOT, tmp_path_factory.mktemp("clone") / "fti"))
    clone.change("training_config.yaml", "n_estimators: 2000", "n_estimators: 60")
    clone.change("training_config.yaml", "copies: 2 ", "copies: 0 ")
    subprocess.run(["git", "commit", "-qam", "Be quick"], cwd=clone.folder, check=True)
    assert clone.ran() == STAGES
    yield clone
    embedded.delete(clone.settings)


def cloned(origin: Path, folder: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(origin), str(folder)], check=True)
    for name, value in (("user.name", "Test"), ("user.email", "test@example.com")):
        subprocess.run(["git", "config", name, value], cwd=folder, check=True)
    return folder


def test_a_second_reproduction_does_nothing(clone: Clone) -> None:
    assert clone.ran() == []
    assert json.loads(clone.dvc("status", "--json")) == {}


def test_the_data_set_in_mlflow_is_the_one_that_dvc_knows(clone: Clone) -> None:
    lock = yaml.safe_load((clone.folder / "dvc.lock").read_text())
    (out,) = lock["stages"]["features"]["outs"]
    (version,) = model_registry(clone.settings).versions()
    assert (version.tags["dvc_path"], version.tags["dvc_md5"]) == (out["path"], out["md5"])
    assert md5(clone.folder / out["path"]) == out["md5"]
    kept = json.loads((clone.folder / "data" / "training.json").read_text())
    assert kept["tags"]["dataset_digest"] == version.tags["dataset_digest"]


def test_a_parameter_runs_what_depends_on_it_and_shows_in_the_metrics(clone: Clone) -> None:
    clone.change("deployment_config.yaml", '"<=50K", ">50K"', '"no", "yes"')
    assert clone.ran() == ["batch"]
    clone.change(
        "training_config.yaml",
        "max_depth: 5\n  colsample_bytree: 0.2   #",
        "max_depth: 2\n  colsample_bytree: 0.2   #",
    )
    assert clone.ran() == ["train", "evaluate", "batch"]
    changed = clone.json("metrics", "diff")
    log_loss = changed.get("diff", changed)["data/metrics.json"]["log_loss"]
    assert log_loss["diff"] > 0  # shallow trees are worse
    plots = clone.dvc("plots", "show", "--out", str(clone.folder / "var" / "plots"))
    page = (clone.folder / "var" / "plots" / "index.html").read_text()
    assert "index.html" in plots
    assert "false_positive_rate" in page


def test_what_was_pushed_fills_the_empty_stores_of_another_clone(
    clone: Clone, tmp_path: Path
) -> None:
    clone.dvc("push")
    subprocess.run(["git", "add", "-A"], cwd=clone.folder, check=True)
    subprocess.run(["git", "commit", "-qm", "Another model"], cwd=clone.folder, check=True)
    other = Clone(cloned(clone.folder, tmp_path / "other"))
    shutil.copytree(clone.folder / "var" / "dvc", other.folder / "var" / "dvc")
    try:
        other.dvc("pull")
        assert other.ran() == []
        files = {path.name: md5(path) for path in (clone.folder / "data" / "model").iterdir()}
        assert files == {path.name: md5(path) for path in (other.folder / "data/model").iterdir()}
        restored = subprocess.run(
            [sys.executable, "pipelines/stages.py", "restore"],
            cwd=other.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(other.folder), "NO_COLOR": "1"},
        )
        assert restored.returncode == 0, restored.stdout + restored.stderr
        assert "48,842 were brought back, 0 were there" in restored.stdout
        assert online_store(other.settings).count() == 48_842
        newest = model_registry(clone.settings).versions()[-1]
        (version,) = model_registry(other.settings).versions()
        assert version.digest == newest.digest
        assert version.tags["dataset_digest"] == newest.tags["dataset_digest"]
    finally:
        embedded.delete(other.settings)
