"""A training run: how good the model is, how long the command takes, and where the time goes.

The command is run for a model, for an ensemble, and with fifty trials of tuning. Growth is that of
split and fit, with 200 trees, from 100,000 rows to a million: the real ones again and again, told
apart by ``fnlwgt``.

Quality is that of the default settings over the split seeds 0 to 4, on rows that are 20 % of the
whole; the settings were chosen on other seeds. ``unmasked`` is the same model without masked
copies: what it costs to stay sensible when attributes are absent.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.harness.report import Report, interleaved, is_quick, seconds
from benchmarks.harness.stage import filled_stores, real_rows, servers
from configs.settings import ROOT, Settings, load_settings
from configs.training_config import TrainingConfig
from feature_store.connect import offline_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.training_data import TrainingRows, training_rows
from infrastructure import embedded
from models.connect import model_registry
from models.families import new_model
from models.lineage import Recipe
from models.registry.tracking import TrainingRecord, register_run
from models.reports.write_up import write_up
from models.rows.masking import Masker
from models.rows.split import Split
from models.tabular_model import TabularModel
from models.training.fit import Trained, fit, held_out_metrics, split_of

SEEDS = (0, 1, 2, 3, 4)
QUICK_SEEDS = (100,)
MASKER = Masker(MODEL_VIEW)
TARGETS = {
    "masked_mean_accuracy": (">=", 0.875),
    "masked_mean_roc_auc": (">=", 0.930),
    "masked_mean_f1_score": (">=", 0.730),
    "masked_mean_log_loss_request_attributes": ("<=", 0.42),
    "masked_worst_log_loss_all_missing_off_base_rate": ("<=", 0.05),
    "difference_mean_roc_auc_unmasked_minus_masked": ("<=", 0.0015),
    "command_wall": ("<=", 20.0),
    "command_with_50_trials_wall": ("<=", 240.0),
    "command_of_ensemble_wall": ("<=", 600.0),
    "growth_a_row_1000000_over_100000": ("<=", 1.3),
}
FEW, MANY = 100_000, 1_000_000
QUICK_FEW, QUICK_MANY = 10_000, 20_000


def without_copies(config: TrainingConfig) -> TrainingConfig:
    """The same training without masked copies."""
    return config.model_copy(update={"masking": config.masking.model_copy(update={"copies": 0})})


def quality(rows: TrainingRows, seed: int) -> dict[str, dict[str, float]]:
    """Metrics on the test part of one split: trained with masked copies, and without."""
    config = load_settings(training={"seed": seed}).training
    split, found = split_of(rows, MASKER.schema, config), {}
    for subject, each in (("masked", config), ("unmasked", without_copies(config))):
        model = fit(new_model(each), split, MASKER, each)
        found[subject] = held_out_metrics(model, split.test, MASKER, each)
        found[subject] |= {name: float(value) for name, value in model.facts().items()}
    return found


def add_quality(report: Report, by_seed: list[dict[str, dict[str, float]]]) -> None:
    """Add each metric by seed, and its mean and standard deviation."""
    for metric in by_seed[0]["masked"]:
        runs = {subject: [found[subject][metric] for found in by_seed] for subject in by_seed[0]}
        report.add(metric, "", runs)
        for name, summary in (("mean", statistics.mean), ("sd", deviation)):
            report.add(f"{name}_{metric}", "", {s: [summary(v)] for s, v in runs.items()})
    excess = [
        abs(found["masked"]["log_loss_all_missing"] - found["masked"]["log_loss_base_rate"])
        for found in by_seed
    ]
    report.add("worst_log_loss_all_missing_off_base_rate", "", {"masked": [max(excess)]})
    lost = [found["unmasked"]["roc_auc"] - found["masked"]["roc_auc"] for found in by_seed]
    report.add("mean_roc_auc_unmasked_minus_masked", "", {"difference": [statistics.mean(lost)]})


def deviation(values: list[float]) -> float:
    """Standard deviation of a sample; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


@dataclass
class Run:
    """One training, step by step: each step uses what the one before made."""

    settings: Settings
    folder: Path
    rows: TrainingRows = field(init=False)
    split: Split = field(init=False)
    model: TabularModel = field(init=False)
    trained: Trained = field(init=False)
    record: TrainingRecord = field(init=False)

    @property
    def steps(self) -> Mapping[str, Callable[[], None]]:
        """The steps by name, in order."""
        ordered = (self.retrieve, self.divide, self.train, self.evaluate, self.pack, self.register)
        return {step.__name__: step for step in ordered}

    def retrieve(self) -> None:
        """Read features and labels as of the labels' times."""
        config = self.settings.training
        store, view = offline_store(self.settings), MODEL_VIEW
        self.rows = training_rows(store, view.schema, view.entity, config.start, config.end)

    def divide(self) -> None:
        """Split the rows."""
        self.split = split_of(self.rows, MASKER.schema, self.settings.training)

    def train(self) -> None:
        """Fit the model."""
        config = self.settings.training
        self.model = fit(new_model(config), self.split, MASKER, config)

    def evaluate(self) -> None:
        """Judge it on the test rows, complete and masked."""
        metrics = held_out_metrics(self.model, self.split.test, MASKER, self.settings.training)
        self.trained = Trained(self.model, self.split, metrics)

    def pack(self) -> None:
        """Export the artifact and draw the plots."""
        fresh = Path(tempfile.mkdtemp(dir=self.folder))
        config, now = self.settings.training, datetime.now(UTC)
        recipe = Recipe.of(self.rows, config)
        self.record = write_up(self.trained, recipe, MASKER, now, fresh, config)

    def register(self) -> None:
        """Log the run and register the version."""
        register_run(model_registry(self.settings), self.record)


def command(settings: Settings, *more: str) -> None:
    """The whole command, imports included."""
    environment = {
        **os.environ,
        "DATABASE_URL": str(settings.database_url),
        "MLFLOW_TRACKING_URI": str(settings.mlflow_tracking_uri),
    }
    arguments = [sys.executable, "pipelines/training_pipeline.py", *more]
    ended = subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode or more:
        print(f"$ {' '.join(arguments[1:])}\n{ended.stdout}{ended.stderr}", flush=True)
    ended.check_returncode()


def repeated(rows: TrainingRows, n: int) -> TrainingRows:
    """So many rows: the real ones again and again, no two of them equal."""
    places = np.arange(n) % len(rows)
    values = rows.features.values[places]
    values[:, rows.features.schema.position("fnlwgt")] += np.arange(n) // len(rows)
    times = rows.features.times[places]
    matrix = FeatureMatrix(values, np.arange(n), times, rows.features.schema)
    return TrainingRows(matrix, rows.labels[places])


def seconds_a_row(rows: TrainingRows) -> float:
    """How long split and fit take for each row."""
    trees = {"n_estimators": 200, "early_stopping_rounds": 200}
    config = load_settings(training={"xgboost": trees}).training

    def work() -> None:
        fit(new_model(config), split_of(rows, MASKER.schema, config), MASKER, config)

    return seconds(work)() / len(rows)


def add_growth(report: Report, rows: TrainingRows) -> None:
    """Add the time a row of few and of many rows."""
    few, many = (QUICK_FEW, QUICK_MANY) if is_quick() else (FEW, MANY)
    found = {n: seconds_a_row(repeated(rows, n)) for n in (few, many)}
    for n, each in found.items():
        report.add(f"fit_a_row_of_{n}", "us", {"xgboost": [each * 1e6]})
    report.add("a_row_1000000_over_100000", "", {"growth": [found[many] / found[few]]})


def main() -> int:
    """Measure time on servers of their own, then quality seed by seed."""
    report = Report("training_run", packages=["xgboost-cpu", "numpy", "mlflow"])
    rounds = 1 if is_quick() else 3
    with servers() as own, tempfile.TemporaryDirectory() as folder:
        filled_stores(own)
        url = embedded.mlflow_url(own.model_copy(update={"mlflow_tracking_uri": None}))
        settings = own.model_copy(update={"mlflow_tracking_uri": url})
        wall = {"command": seconds(lambda: command(settings))}
        report.add("wall", "s", interleaved(wall, rounds))
        trials = "2" if is_quick() else "50"
        longer = {
            "command_with_50_trials": seconds(lambda: command(settings, "--tune", trials)),
            "command_of_ensemble": seconds(lambda: command(settings, "--model", "ensemble")),
        }
        if is_quick():
            del longer["command_of_ensemble"]
        # Once: a study that is finished is not run again.
        report.add("wall", "s", {name: [measure()] for name, measure in longer.items()})
        steps = Run(settings, Path(folder)).steps
        phases = {name: seconds(step) for name, step in steps.items()}
        report.add("phase", "s", interleaved(phases, rounds))
        matrix, labels = real_rows(settings)
    rows = TrainingRows(matrix, labels.values)
    add_growth(report, rows)
    seeds = QUICK_SEEDS if is_quick() else SEEDS
    add_quality(report, [quality(rows, seed) for seed in seeds])
    for name, (compare, bound) in TARGETS.items():
        if not (is_quick() and "ensemble" in name):
            report.target(name, compare, bound)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
