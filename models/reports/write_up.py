"""A fitted model packed for deployment and written up for people."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import numpy as np

from configs.training_config import TrainingConfig
from models.artifact.artifact import (
    PROFILE,
    ModelArtifact,
    example_json,
    json_bytes,
    schema_json,
    write_artifact,
)
from models.artifact.profile import ReferenceProfile, reference_profile
from models.lineage import Recipe, git_commit
from models.onnx.scorer import OnnxScorer
from models.registry.tracking import TrainingRecord
from models.reports.charts import save_plots
from models.reports.evaluation_report import NO_EXTRAS, Extras, evaluate_in_detail
from models.reports.model_card import model_card
from models.reports.parity import parity_rows, refuse_different
from models.rows.masking import Masker
from models.training.fit import Trained

EXAMPLES = 8
SHOWN_SETTINGS = (
    *("model", "seed", "start", "end", "test_share"),
    *("threshold_objective", "calibration", "exclude_protected"),
)
"""Settings that a run shows among its parameters; ``config.json`` has them all."""


def write_up(
    trained: Trained,
    recipe: Recipe,
    masker: Masker,
    started_at: datetime,
    folder: Path,
    config: TrainingConfig,
    extras: Extras = NO_EXTRAS,
) -> TrainingRecord:
    """Pack the model, draw its plots and write its card; return all that MLflow shall keep.

    Raises
    ------
    ExportRefused
        If the ONNX graph answers otherwise than the model.
    """
    model, settings, dataset = trained.model, recipe.settings, recipe.dataset
    artifact = pack(trained, recipe, masker, folder / "artifact")
    report = evaluate_in_detail(model, trained.split, masker, config, extras)
    files = folder / "files"
    files.mkdir()
    shutil.copy(artifact.path / "config.json", files)
    (files / "evaluation.json").write_bytes(json_bytes(report.to_json()))
    save_plots(files, report, model.importance())
    card = model_card(trained, recipe, report, started_at)
    (files / "model_card.html").write_text(card, encoding="utf-8")
    return TrainingRecord(
        experiment=settings["experiment_name"],
        run_name=model.family,
        started_at=started_at,
        params={
            "n_samples": dataset.n_samples,
            "n_features": dataset.n_features,
            **{name: settings[name] for name in SHOWN_SETTINGS},
            **{f"masking_{name}": value for name, value in settings["masking"].items()},
            **settings["params"],
            **model.facts(),
        },
        metrics={**trained.metrics, **report.metrics()},
        tags={
            "schema_fingerprint": masker.schema.definition_fingerprint,  # of the stored version
            "dataset_digest": dataset.digest,
            "training_key": recipe.training_key,
            "git_commit": git_commit(),
            "code_version": recipe.code,
        },
        dataset=dataset,
        files=files,
        artifact=artifact,
        tuned=extras.tuned,
    )


def pack(trained: Trained, recipe: Recipe, masker: Masker, folder: Path) -> ModelArtifact:
    """Write the deployable artifact, once its ONNX graph is proven to answer as the model does.

    Raises
    ------
    ExportRefused
        If the ONNX graph answers otherwise than the model.
    """
    model, test = trained.model, masker.narrow(trained.split.test.features)
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
    scorer = OnnxScorer(onnx, len(test.schema))
    answers = scorer.predict(examples)
    folder.mkdir(parents=True)
    model.save(folder)
    return write_artifact(
        folder,
        {
            "schema.json": schema_json(test.schema, masker.engine.view.entity),
            "config.json": json_bytes(config),
            "model.onnx": onnx,
            "example.json": example_json(examples, answers.tolist()),
            PROFILE: json_bytes(profile_of(trained, masker, scorer).to_json()),
        },
    )


def profile_of(trained: Trained, masker: Masker, scorer: OnnxScorer) -> ReferenceProfile:
    """What the model was trained on, and what it says of rows that it has not seen."""
    split, train = trained.split, masker.narrow(trained.split.train.features)
    unseen = masker.narrow(split.test.features)
    return reference_profile(
        train.values,
        train.schema,
        scorer.predict(unseen.values),
        [part.labels for part in (split.train, split.validation, split.test)],
        trained.model.importance(),
    )
