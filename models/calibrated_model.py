"""A model whose probabilities pass through a calibration, wherever they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import json_bytes
from models.base import Features, Labels, Values
from models.evaluation import metrics as evaluation
from models.evaluation.calibration import FILE, Calibration
from models.onnx.scorer import OUTPUT
from models.tabular_model import TabularModel

if TYPE_CHECKING:
    import pandas as pd


def with_calibration(model: TabularModel, folder: Path) -> TabularModel:
    """Give a loaded model the calibration that was saved with it, if there was one."""
    calibration = Calibration.read_beside(folder / FILE)
    return model if calibration is None else calibrated(model, calibration)


def calibrated(model: TabularModel, calibration: Calibration) -> TabularModel:
    """Give a model that answers as before, but for its probabilities, which are set right."""
    return cast(TabularModel, CalibratedModel(model, calibration))


class CalibratedModel:
    """A fitted model of any family with a calibration behind it.

    Everything that is not here is asked of the model itself: its family, schema and importance.
    """

    def __init__(self, model: TabularModel, calibration: Calibration) -> None:
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


def calibrated_graph(onnx: bytes, calibration: Calibration, output: str) -> bytes:
    """Put the curve behind a graph's ``(n, 2)`` output of probabilities, which keeps its name.

    Whole numbers are summed and single numbers added and multiplied, each row by itself: a row has
    the same bits in every batch.
    """
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    model = ModelProto.FromString(onnx)
    raw = f"raw_{output}"
    for node in model.graph.node:
        node.output[:] = [raw if name == output else name for name in node.output]
    constants: dict[str, NDArray[Any]] = {
        "knots": calibration.x[None, :],
        "x": calibration.x,
        "y": calibration.y,
        "slope": calibration.slope,
        "second": np.array([1], dtype=np.int64),
        "one": np.array([[1]], dtype=np.int64),
        "zero": np.array([[0]], dtype=np.int64),
        "last": np.array([[len(calibration.x) - 2]], dtype=np.int64),
        "nought": np.array(0, dtype=np.float32),
        "whole": np.array(1, dtype=np.float32),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), f"calibration_{name}")
        for name, value in constants.items()
    )
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Gather", [raw, "second"], "said", {"axis": 1}),
        ("GreaterOrEqual", ["said", "knots"], "reached", {}),
        ("Cast", ["reached"], "reached_whole", {"to": TensorProto.INT64}),
        ("ReduceSum", ["reached_whole", "second"], "passed", {"keepdims": 1}),
        ("Sub", ["passed", "one"], "found", {}),
        ("Max", ["found", "zero"], "not_before", {}),
        ("Min", ["not_before", "last"], "piece", {}),
        ("Gather", ["x", "piece"], "from_x", {}),
        ("Gather", ["y", "piece"], "from_y", {}),
        ("Gather", ["slope", "piece"], "rise", {}),
        ("Sub", ["said", "from_x"], "beyond", {}),
        ("Mul", ["rise", "beyond"], "gain", {}),
        ("Add", ["from_y", "gain"], "sum", {}),
        ("Clip", ["sum", "nought", "whole"], "right", {}),
        ("Sub", ["whole", "right"], "wrong", {}),
        ("Concat", ["wrong", "right"], output, {"axis": 1}),
    ]

    def named(name: str) -> str:
        return name if name in {raw, output} else f"calibration_{name}"

    model.graph.node.extend(
        helper.make_node(kind, [named(n) for n in inputs], [named(result)], **options)
        for kind, inputs, result, options in steps
    )
    if not any(known.domain == "" for known in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 15))
    graph: bytes = model.SerializeToString()
    return graph
