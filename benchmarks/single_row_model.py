"""One row through the model, in process: the ONNX graph that serves, and the usual ways.

The model is the shipped one: trained on the real rows with the default settings.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd

from benchmarks.harness.report import Report, each, interleaved, is_quick
from benchmarks.harness.shipped_model import shipped_model
from models.bulk_scorer import BulkScorer
from models.onnx.scorer import OnnxScorer


def main() -> int:
    """Measure one call with one row (µs), and one with 16 rows."""
    report = Report("single_row_model", packages=["onnxruntime", "xgboost-cpu", "mlflow"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artifact"
        path.mkdir()
        pyfunc_path, features = shipped_model(path)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        onnx = OnnxScorer((path / "model.onnx").read_bytes(), len(features.schema))
        native = BulkScorer(path / "model.ubj")
        pyfunc = mlflow.pyfunc.load_model(str(pyfunc_path))
    for n, metric in ((1, "one_row"), (16, "sixteen_rows")):
        rows = np.ascontiguousarray(features.values[:n])
        frame = pd.DataFrame(rows, columns=list(features.schema.names))
        assert np.allclose(onnx.predict(rows), native.predict(rows), atol=1e-5)
        rounds, repeats = (2, 100) if is_quick() else (7, 1000)
        subjects = {
            "onnx": each(partial(onnx.predict, rows), repeats),
            "xgboost": each(partial(native.predict, rows), repeats),
            "pyfunc": each(partial(pyfunc.predict, frame), max(repeats // 50, 5)),
        }
        report.add(metric, "us", interleaved(subjects, rounds))
        report.ratio("xgboost", "onnx", metric)
        report.ratio("pyfunc", "onnx", metric)
    report.target("xgboost_over_onnx_one_row", ">=", 4.0)
    report.target("pyfunc_over_onnx_one_row", ">=", 50.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
