"""The curve of a calibration as part of an ONNX graph, equal to the bit to what NumPy computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.calibration import Calibration


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
