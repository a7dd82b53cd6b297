"""Plots and lineage of a training."""

from __future__ import annotations

import json
import subprocess

import numpy as np
from PIL import Image

from configs.settings import load_settings
from feature_store.training_data import TrainingRows
from models.lineage import Dataset, Recipe, git_commit


def test_every_plot_is_a_picture_of_some_size_and_more_than_one_colour(record):
    plots = sorted(record.files.glob("*.png"))
    assert len(plots) == 6
    for path in plots:
        with Image.open(path) as picture:
            assert min(picture.size) > 600
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_config_json_says_how_the_model_came_about(record, rows):
    config = json.loads((record.files / "config.json").read_bytes())
    assert (config["seed"], config["model"], config["params"]["max_depth"]) == (101, "xgboost", 4)
    assert config["start"].startswith("2020-01-01")
    assert config["dataset_digest"] == Dataset.of(rows).digest
    assert config["packages"]["xgboost-cpu"]


def test_equal_trainings_have_equal_keys(rows, training):
    assert Recipe.of(rows, training).training_key == Recipe.of(rows, training).training_key


def test_every_change_gives_another_key(rows, training):
    labels = rows.labels.copy()
    labels[0] = 1 - labels[0]
    values = rows.features.values.copy()
    values[0, 0] += 1
    keys = {
        Recipe.of(rows, training).training_key,
        Recipe.of(rows, training.model_copy(update={"seed": 5})).training_key,
        Recipe.of(rows, load_settings().training).training_key,
        Recipe.of(TrainingRows(rows.features, labels), training).training_key,
        Recipe.of(
            TrainingRows(rows.features.rows(np.arange(3_999)), labels[:3_999]), training
        ).training_key,
    }
    assert len(keys) == 5


def test_the_commit_is_that_of_the_folder_and_tells_of_changes(tmp_path):
    assert git_commit(tmp_path) == "unknown"
    run = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*run, *arguments], check=True)
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}+changes"
