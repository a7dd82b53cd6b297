"""From rows to a judged model, packed for deployment and written up for people."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from configs.settings import TrainingConfig
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.training_data import TrainingRows
from models.artifact.artifact import (
    PROFILE,
    ModelArtifact,
    example_json,
    json_bytes,
    schema_json,
    write_artifact,
)
from models.artifact.profile import ReferenceProfile, reference_profile
from models.base import Model, OnRound, narrowed
from models.calibrated_model import calibrated
from models.errors import TrainingRefused
from models.evaluation import metrics as evaluation
from models.evaluation.calibration import fit_calibration
from models.lineage import Recipe, git_commit
from models.onnx.parity import parity_rows, refuse_different
from models.onnx.scorer import OnnxScorer
from models.registry.tracking import TrainingRecord
from models.reports import plots
from models.reports.evaluation_report import NOTHING_ELSE, Beside, look_closer
from models.reports.model_card.page import model_card
from models.reports.search_plots import save_contributions, save_tuning
from models.rows.masking import Masker
from models.rows.split import Part, Split, split_rows

EXAMPLES = 8
SHOWN_SETTINGS = (
    *("model", "seed", "start", "end", "test_share"),
    *("threshold_objective", "calibration", "exclude_protected"),
)
"""Settings that a run shows among its parameters; ``config.json`` has them all."""


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


def masker_of(view: FeatureView, config: TrainingConfig) -> Masker:
    """Choose the features that a model takes: all, or those that tell of nothing protected."""
    if not config.exclude_protected:
        return Masker(view)
    schema = view.schema
    open_ones = [feature.name for feature in schema.features if not feature.protected]
    return Masker(view, schema.select(open_ones))


def recipe_of(rows: TrainingRows, masker: Masker, config: TrainingConfig) -> Recipe:
    """Say what a training of these rows depends on; ``rows`` have all features of the view."""
    return Recipe.of(TrainingRows(masker.narrow(rows.features), rows.labels), config)


def split_of(rows: TrainingRows, schema: FeatureSchema, config: TrainingConfig) -> Split:
    """Split rows of all features; parts share no rows that are equal by ``schema``."""
    return split_rows(
        rows.features,
        rows.labels,
        test_share=config.test_share,
        validation_share=config.validation_share,
        seed=config.seed,
        told_apart_by=narrowed(rows.features, schema).values,
    )


def fit(
    model: Model,
    split: Split,
    masker: Masker,
    config: TrainingConfig,
    on_round: OnRound | None = None,
) -> Model:
    """Fit a model on the training part and its masked copies; the validation part is complete.

    The validation part decides the rest too: a calibration, if one is wanted, and the threshold.

    Raises
    ------
    TrainingRefused
        If a calibration is wanted of a family that learns from the validation part as well.
    """
    refuse_dishonest_calibration(model, config)
    train, labels = masker.narrow(split.train.features), split.validation.labels
    validation = masker.narrow(split.validation.features)
    rows = masker.with_copies(train, split.train.labels, config.masking, config.seed)
    fitted: Model = model.fit(
        rows.features,
        rows.labels,
        validation=(validation, labels),
        weights=rows.weights,
        on_round=on_round,
    )
    if config.calibration == "none":
        return fitted
    said = fitted.predict_proba(validation)
    fitted = calibrated(fitted, fit_calibration(config.calibration, labels, said))
    fitted.threshold = evaluation.choose_threshold(
        labels, fitted.predict_proba(validation), config.threshold_objective, config.decision
    )
    return fitted


def refuse_dishonest_calibration(model: Model, config: TrainingConfig) -> None:
    """Refuse to calibrate a model on rows that it learned from.

    Raises
    ------
    TrainingRefused
        If the settings ask for that.
    """
    if config.calibration != "none" and model.learns_from_validation:
        raise TrainingRefused(
            f"{model.title} learns from the validation rows too and is calibrated out of fold; "
            f"calibration '{config.calibration}' has no rows left. Set 'training.calibration' to "
            "none."
        )


def judge(model: Model, test: Part, masker: Masker, config: TrainingConfig) -> dict[str, float]:
    """Metrics on the test part: complete, and with attributes absent."""
    features = masker.narrow(test.features)
    masked = evaluation.masked_metrics(
        model, features, test.labels, masker, config.masking.request_attributes
    )
    return model.evaluate(features, test.labels) | masked


def write_up(
    trained: Trained,
    recipe: Recipe,
    masker: Masker,
    started_at: datetime,
    folder: Path,
    config: TrainingConfig,
    beside: Beside = NOTHING_ELSE,
) -> TrainingRecord:
    """Pack the model, draw its plots and write its card; return all that MLflow shall keep.

    Raises
    ------
    ExportRefused
        If the ONNX graph answers otherwise than the model.
    """
    model, settings, dataset = trained.model, recipe.settings, recipe.dataset
    artifact = pack(trained, recipe, masker, folder / "artifact")
    judgement = look_closer(model, trained.split, masker, config, beside)
    files = folder / "files"
    files.mkdir()
    shutil.copy(artifact.path / "config.json", files)
    (files / "evaluation.json").write_bytes(json_bytes(judgement.to_json()))
    plots.save_plots(
        files, judgement.labels, judgement.probabilities, model.threshold, model.importance()
    )
    save_contributions(files, judgement.explained)
    if beside.tuned is not None:
        save_tuning(files, beside.tuned)
    card = model_card(trained, recipe, judgement, started_at)
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
        metrics={**trained.metrics, **judgement.metrics()},
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
        tuned=beside.tuned,
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
