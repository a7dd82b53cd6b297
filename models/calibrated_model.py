"""A model whose probabilities pass through a calibration, wherever they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from models.artifact.artifact import json_bytes
from models.base import Features, Labels, Model, Values
from models.evaluation import metrics as evaluation
from models.evaluation.calibration import FILE, Calibration
from models.onnx.calibration_graph import calibrated_graph
from models.onnx.scorer import OUTPUT

if TYPE_CHECKING:
    import pandas as pd


def with_calibration(model: Model, folder: Path) -> Model:
    """Give a loaded model the calibration that was saved with it, if there was one."""
    calibration = Calibration.beside(folder / FILE)
    return model if calibration is None else calibrated(model, calibration)


def calibrated(model: Model, calibration: Calibration) -> Model:
    """Give a model that answers as before, but for its probabilities, which are set right."""
    return cast(Model, CalibratedModel(model, calibration))


class CalibratedModel:
    """A fitted model of any family with a calibration behind it.

    Everything that is not here is asked of the model itself: its family, schema and importance.
    """

    def __init__(self, model: Model, calibration: Calibration) -> None:
        self.model = model
        self.calibration = calibration
        self.threshold = model.threshold

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # not made yet, as while it is copied
            raise AttributeError(name)
        return getattr(self.model, name)

    def predict_proba(self, features: Features) -> Values:
        """Calibrated probability of label 1, float32 ``(n,)``."""
        return self.calibration(self.model.predict_proba(features))

    def evaluate(self, features: Features, labels: Labels | pd.Series) -> dict[str, float]:
        """Metrics of the calibrated probabilities, by name."""
        known = np.asarray(labels, dtype=np.int8)
        return evaluation.metrics(known, self.predict_proba(features), self.threshold)

    def facts(self) -> dict[str, int | float | str]:
        """Those of the model, with the threshold for calibrated probabilities."""
        knots = {"calibration_knots": len(self.calibration.x)}
        return self.model.facts() | {"threshold": self.threshold} | knots

    def to_onnx(self) -> bytes:
        """The model's graph with the curve as its last part."""
        return calibrated_graph(self.model.to_onnx(), self.calibration, OUTPUT)

    def save(self, folder: Path) -> None:
        """Write the native files, and the curve beside them."""
        self.model.save(folder)
        (folder / FILE).write_bytes(json_bytes(self.calibration.to_json()))
