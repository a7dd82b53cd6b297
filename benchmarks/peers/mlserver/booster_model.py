"""The trees as a model of MLServer."""

import os

import numpy as np
import xgboost
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class BoosterModel(MLModel):
    """Answers vectors with XGBoost's native trees."""

    async def load(self) -> bool:
        """Read the trees."""
        path = os.environ["NATIVE_MODEL"]
        self.booster = xgboost.Booster({"nthread": 1}, model_file=path)
        self.booster.feature_names = self.booster.feature_types = None
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the rows of one request."""
        values = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        answer = self.booster.inplace_predict(values)
        output = NumpyCodec.encode_output("probability", answer)
        return InferenceResponse(model_name=self.name, outputs=[output])
