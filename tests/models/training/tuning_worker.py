"""A process that works on a study, for tests that kill it."""

from __future__ import annotations

import sys

from benchmarks.harness.stage import real_rows
from configs.settings import load_settings
from configs.training_config import TrainingConfig
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.training_data import TrainingRows
from models.lineage import Recipe
from models.rows.masking import Masker
from models.training.fit import split_of
from models.training.study_store import StudyStore
from models.training.tuning import Tuned, tune

N_ROWS = 1_200
TUNING = {"rows": 500, "folds": 2, "copies": 0, "warmup_trials": 3}
SPACE = {
    "learning_rate": {"low": 0.02, "high": 0.6, "log": True},
    "max_depth": {"low": 1, "high": 6},
}


def config(seed: int) -> TrainingConfig:
    """Settings with a space in which a trial takes a moment."""
    tuning = {**TUNING, "spaces": {"xgboost": SPACE}}
    params = {"n_estimators": 12}
    return load_settings(training={"seed": seed, "xgboost": params, "tuning": tuning}).training


def store(url: str) -> StudyStore:
    return StudyStore(url, heartbeat_s=1, grace_s=3)


def work(url: str, seed: int, trials: int, rows: TrainingRows | None = None) -> Tuned:
    """Tune until so many trials are finished; print how many there are."""
    if rows is None:
        matrix, labels = real_rows(load_settings(), N_ROWS)
        rows = TrainingRows(matrix, labels.values)
    training, masker = config(seed), Masker(MODEL_VIEW)
    split, recipe = split_of(rows, masker.schema, training), Recipe.of(rows, training)
    return tune(store(url), split, masker, recipe, training, trials, say)


def say(more: int, best: str) -> None:
    print(more, best, flush=True)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
