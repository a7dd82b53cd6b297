"""From rows to a fitted model and its metrics on rows that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

from configs.training_config import MaskingConfig, TrainingConfig
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.training_data import TrainingRows
from models.base import OnRound, narrowed
from models.calibrated_model import calibrated
from models.errors import TrainingRefused
from models.evaluation import metrics as evaluation
from models.evaluation.calibration import fit_calibration
from models.lineage import Recipe
from models.rows.masking import Masker
from models.rows.split import Part, Split, split_rows
from models.tabular_model import TabularModel


@dataclass(frozen=True)
class Trained:
    """A fitted model with what it was fitted and judged on.

    Parameters
    ----------
    metrics
        Of the test part, by name.
    """

    model: TabularModel
    split: Split
    metrics: dict[str, float]


def masker_of(view: FeatureView, config: TrainingConfig) -> Masker:
    """Choose the features that a model takes: all, or only the unprotected ones."""
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
    model: TabularModel,
    split: Split,
    masker: Masker,
    config: TrainingConfig,
    on_round: OnRound | None = None,
) -> TabularModel:
    """Fit a model on the training part and its masked copies; the validation part is complete.

    The validation part decides the rest too: a calibration, if one is wanted, and the threshold.

    Raises
    ------
    TrainingRefused
        If a calibration is wanted of a family that learns from the validation part as well.
    """
    refuse_dishonest_calibration(model, config)
    fitted = fit_part(
        model, split.train, split.validation, masker, config.masking, config.seed, on_round
    )
    if config.calibration == "none":
        return fitted
    validation, labels = masker.narrow(split.validation.features), split.validation.labels
    said = fitted.predict_proba(validation)
    fitted = calibrated(fitted, fit_calibration(config.calibration, labels, said))
    fitted.threshold = evaluation.choose_threshold(
        labels, fitted.predict_proba(validation), config.threshold_objective, config.decision
    )
    return fitted


def fit_part(
    model: TabularModel,
    part: Part,
    validation: Part,
    masker: Masker,
    masking: MaskingConfig,
    seed: int,
    on_round: OnRound | None = None,
) -> TabularModel:
    """Fit a model on a part and its masked copies; both parts have all features."""
    rows = masker.with_copies(masker.narrow(part.features), part.labels, masking, seed)
    return model.fit(
        rows.features,
        rows.labels,
        validation=(masker.narrow(validation.features), validation.labels),
        weights=rows.weights,
        on_round=on_round,
    )


def refuse_dishonest_calibration(model: TabularModel, config: TrainingConfig) -> None:
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


def held_out_metrics(
    model: TabularModel, test: Part, masker: Masker, config: TrainingConfig
) -> dict[str, float]:
    """Metrics on the test part: complete, and with attributes absent."""
    features = masker.narrow(test.features)
    masked = evaluation.masked_metrics(
        model, features, test.labels, masker, config.masking.request_attributes
    )
    return model.evaluate(features, test.labels) | masked
