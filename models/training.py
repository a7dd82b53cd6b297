"""From rows to a judged model, packed for deployment and written up for people."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from configs.settings import TrainingConfig
from models import evaluation, plots
from models.artifact import ModelArtifact, example_json, json_bytes, schema_json, write_artifact
from models.base import Model, OnRound
from models.lineage import Recipe, git_commit
from models.masking import Masker
from models.onnx_export import parity_rows, refuse_different
from models.scorer import OnnxScorer
from models.split import Part, Split
from models.tracking import TrainingRecord

EXAMPLES = 8


@dataclass(frozen=True)
class Trained:
    """A fitted model with what it was fitted and judged on.

    Parameters
    ----------
    metrics
        Of the test part, by name.
    """

    model: Model
    split: Split
    metrics: dict[str, float]


def fit(
    model: Model,
    split: Split,
    masker: Masker,
    config: TrainingConfig,
    on_round: OnRound | None = None,
) -> Model:
    """Fit a model on the training part and its masked copies; the validation part is complete."""
    train, validation = split.train, split.validation
    rows = masker.with_copies(train.features, train.labels, config.masking, config.seed)
    return model.fit(
        rows.features,
        rows.labels,
        validation=(validation.features, validation.labels),
        weights=rows.weights,
        on_round=on_round,
    )


def judge(model: Model, test: Part, masker: Masker, config: TrainingConfig) -> dict[str, float]:
    """Metrics on the test part: complete, and with attributes absent."""
    masked = evaluation.masked_metrics(
        model, test.features, test.labels, masker, config.masking.request_attributes
    )
    return model.evaluate(test.features, test.labels) | masked


def write_up(
    trained: Trained, recipe: Recipe, masker: Masker, started_at: datetime, folder: Path
) -> TrainingRecord:
    """Pack the model and draw its plots in a folder; return all that MLflow shall keep.

    Raises
    ------
    ExportRefused
        If the ONNX graph answers otherwise than the model.
    """
    model, test, settings = trained.model, trained.split.test, recipe.settings
    artifact = pack(trained, recipe, masker, folder / "artifact")
    files = folder / "files"
    files.mkdir()
    shutil.copy(artifact.path / "config.json", files)
    plots.save_plots(
        files,
        test.labels,
        model.predict_proba(test.features),
        model.threshold,
        model.importance(),
    )
    dataset = recipe.dataset
    return TrainingRecord(
        experiment=settings["experiment_name"],
        run_name=model.family,
        started_at=started_at,
        params={
            "n_samples": dataset.n_samples,
            "n_features": dataset.n_features,
            **{name: settings[name] for name in ("model", "seed", "start", "end", "test_share")},
            **{f"masking_{name}": value for name, value in settings["masking"].items()},
            **settings["params"],
            **model.facts(),
        },
        metrics=trained.metrics,
        tags={
            "schema_fingerprint": dataset.fingerprint,
            "dataset_digest": dataset.digest,
            "training_key": recipe.training_key,
            "git_commit": git_commit(),
            "code_version": recipe.code,
        },
        dataset=dataset,
        files=files,
        artifact=artifact,
    )


def pack(trained: Trained, recipe: Recipe, masker: Masker, folder: Path) -> ModelArtifact:
    """Write the deployable artifact, once its ONNX graph is proven to answer as the model does.

    Raises
    ------
    ExportRefused
        If the ONNX graph answers otherwise than the model.
    """
    model, test = trained.model, trained.split.test.features
    onnx, rows = model.to_onnx(), parity_rows(test, masker)
    config = {
        **recipe.settings,
        "family": model.family,
        "label_prefix": model.label_prefix,
        "threshold": model.threshold,
        "onnx_difference": refuse_different(model, onnx, rows),
        "dataset_digest": recipe.dataset.digest,
        "training_key": recipe.training_key,
        "packages": dict(recipe.packages),
    }
    examples = rows[np.linspace(0, len(rows) - 1, EXAMPLES).astype(int)]
    answers = OnnxScorer(onnx, len(test.schema)).predict(examples)
    folder.mkdir(parents=True)
    model.save(folder)
    return write_artifact(
        folder,
        {
            "schema.json": schema_json(test.schema, masker.engine.view.entity),
            "config.json": json_bytes(config),
            "model.onnx": onnx,
            "example.json": example_json(examples, answers.tolist()),
        },
    )
