"""The families of models by the names that settings and command lines use."""

from __future__ import annotations

from configs.settings import TrainingConfig
from models.base import Model
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
