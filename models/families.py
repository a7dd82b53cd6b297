"""The families of models by the names that settings and command lines use."""

from __future__ import annotations

from configs.settings import TrainingConfig
from models.artifact import ModelArtifact
from models.base import Model
from models.calibrated_model import with_calibration
from models.errors import UnknownModel
from models.xgboost_model import XGBoostModel


def new_model(config: TrainingConfig) -> Model:
    """Make an untrained model of the configured family.

    Raises
    ------
    UnknownModel
        If there is no such family.
    """
    if config.model == XGBoostModel.family:
        return XGBoostModel(
            config.xgboost.model_dump(),
            seed=config.seed,
            threshold_objective=config.threshold_objective,
        )
    raise UnknownModel(f"There is no model family '{config.model}'. Known: {XGBoostModel.family}.")


def load_model(artifact: ModelArtifact) -> Model:
    """Load the native model of an artifact.

    Raises
    ------
    UnknownModel
        If this code does not know its family.
    """
    if artifact.family == XGBoostModel.family:
        model = XGBoostModel.load(artifact.path, artifact.feature_schema)
        return with_calibration(model, artifact.path)
    raise UnknownModel(
        f"There is no model family '{artifact.family}'. Known: {XGBoostModel.family}."
    )
