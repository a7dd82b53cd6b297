"""The families of models by the names that settings and command lines use."""

from __future__ import annotations

from typing import Any

from configs.settings import TrainingConfig
from models.base import Model
from models.ensemble import EnsembleModel
from models.errors import UnknownModel
from models.neural_network import NeuralNetworkModel
from models.xgboost_model import XGBoostModel

FAMILIES: dict[str, Any] = {
    model.family: model for model in (XGBoostModel, NeuralNetworkModel, EnsembleModel)
}
"""The class of each family by its name, which is also that of its section of the settings."""


def new_model(config: TrainingConfig) -> Model:
    """Make an untrained model of the configured family.

    Raises
    ------
    UnknownModel
        If there is no such family.
    """
    if config.model not in FAMILIES:
        raise UnknownModel(
            f"There is no model family '{config.model}'. Known: {', '.join(FAMILIES)}."
        )
    model: Model = FAMILIES[config.model](
        getattr(config, config.model).model_dump(),
        seed=config.seed,
        threshold_objective=config.threshold_objective,
    )
    return model
