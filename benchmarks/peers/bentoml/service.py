"""The trees as a service of BentoML."""

import os

import bentoml
import numpy as np
import xgboost


@bentoml.service(workers=1)
class Income:
    """Answers vectors with XGBoost's native trees."""

    def __init__(self) -> None:
        path = os.environ["NATIVE_MODEL"]
        self.booster = xgboost.Booster({"nthread": 1}, model_file=path)
        self.booster.feature_names = self.booster.feature_types = None

    @bentoml.api
    def predict(self, features: list[list[float]]) -> list[float]:
        """Answer the rows of one request."""
        return self.booster.inplace_predict(np.array(features, dtype=np.float32)).tolist()
