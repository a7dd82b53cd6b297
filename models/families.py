"""The families of models by the names that settings and command lines use."""

from __future__ import annotations

from configs.training_config import TrainingConfig
from models.artifact.artifact import ModelArtifact
from models.calibrated_model import with_calibration
from models.ensemble import EnsembleModel
from models.errors import UnknownModel
from models.neural_network import NeuralNetworkModel
from models.tabular_model import TabularModel
from models.xgboost_model import XGBoostModel

FAMILIES: dict[str, type[TabularModel]] = {
    model.family: model for model in (XGBoostModel, NeuralNetworkModel, EnsembleModel)
}
"""The class of each family by its name, which is also that of its section of the settings."""


def new_model(config: TrainingConfig) -> TabularModel:
    """Make an untrained model of the configured family.

    Raises
    ------
    UnknownModel
        If there is no such family.
    """
    return _family(config.model)(
        getattr(config, config.model).model_dump(),
        seed=config.seed,
        threshold_objective=config.threshold_objective,
        decision=config.decision,
    )


def load_model(artifact: ModelArtifact) -> TabularModel:
    """Load the native model of an artifact, with its calibration, if it has one.

    Raises
    ------
    UnknownModel
        If this code does not know its family.
    """
    model = _family(artifact.family).load(artifact.path, artifact.feature_schema)
    return with_calibration(model, artifact.path)


def _family(name: str) -> type[TabularModel]:
    if name not in FAMILIES:
        raise UnknownModel(f"There is no model family '{name}'. Known: {', '.join(FAMILIES)}.")
    return FAMILIES[name]
