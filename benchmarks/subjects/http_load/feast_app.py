"""Feast's client in a FastAPI route, and the native trees: ``… feast_app PORT``."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import xgboost
from fastapi import FastAPI

from benchmarks.harness.stock_feast import REFERENCES, stock
from benchmarks.subjects.http_load.yardsticks import NO_TELEMETRY, User
from configs.settings import load_settings
from feature_store.feature_definitions import MODEL_VIEW


def app() -> FastAPI:
    """Build the app over what `write_users` wrote."""
    store = stock(load_settings(), Path(os.environ["STOCK_FEAST"]))
    booster = xgboost.Booster({"nthread": 1}, model_file=os.environ["NATIVE_MODEL"])
    booster.feature_names = booster.feature_types = None
    features = MODEL_VIEW.schema.features
    served = FastAPI(telemetry=NO_TELEMETRY)

    @served.post("/predict")
    def predict(body: User) -> dict[str, Any]:
        found = store.get_online_features(REFERENCES, [{"user_id": body.user_id}]).to_dict()
        values = [found[feature.name][0] for feature in features]
        vector = [
            feature.encode(value) if feature.kind == "category" else value
            for feature, value in zip(features, values, strict=True)
        ]
        row = np.array([vector], dtype=np.float32)
        return {"probability": float(booster.inplace_predict(row)[0])}

    return served


if __name__ == "__main__":
    uvicorn.run(app(), port=int(sys.argv[1]), loop="uvloop", access_log=False, log_level="warning")
