"""One row through the model, in process: the ONNX graph that serves, and the usual ways.

And its explanation: exact Shapley values of the features, by us and by XGBoost.

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
from models.trees.forest import FILE as FOREST, Forest
from models.trees.tree_shap import TreeExplainer


def main() -> int:
    """Measure one call with one row (µs), one with 16 rows, and explaining one row."""
    report = Report("single_row_model", packages=["onnxruntime", "xgboost-cpu", "mlflow"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artifact"
        path.mkdir()
        pyfunc_path, features = shipped_model(path)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        onnx = OnnxScorer((path / "model.onnx").read_bytes(), len(features.schema))
        native = BulkScorer(path / "model.ubj")
        forest = Forest.read_npz((path / FOREST).read_bytes())
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
    explainer, row = TreeExplainer(forest, len(features.schema)), features.values[0]
    alone = features.values[:1]
    assert np.allclose(explainer.contributions(row), native.contributions(alone)[0], atol=1e-5)
    subjects = {
        "tree_shap": each(lambda: explainer.contributions(row), 2 if is_quick() else 20),
        "xgboost": each(lambda: native.contributions(alone), 2 if is_quick() else 20),
    }
    report.add("explain_one_row", "us", interleaved(subjects, rounds))
    report.ratio("xgboost", "tree_shap", "explain_one_row")
    report.target("xgboost_over_onnx_one_row", ">=", 4.0)
    report.target("pyfunc_over_onnx_one_row", ">=", 50.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
