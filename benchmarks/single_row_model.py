"""One row through the model, in process: the ONNX graph that serves, and the usual ways.

And its explanation: exact Shapley values of the features, by us and by XGBoost; and the first one
of a process, from the import on, with the memory that it takes: what the API would carry.

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
from numpy.typing import NDArray

from benchmarks.harness.memory import fresh_process
from benchmarks.harness.report import Report, each, interleaved, is_quick
from benchmarks.harness.shipped_model import shipped_model
from benchmarks.subjects.explanation import ROW
from models.bulk_scorer import BulkScorer
from models.onnx.scorer import OnnxScorer
from models.trees.forest import FILE as FOREST, Forest
from models.trees.tree_shap import TreeExplainer


def first_explanations(folder: Path, row: NDArray[np.float32]) -> dict[str, list[dict[str, float]]]:
    """Explain a row in processes of their own, the libraries in turn."""
    np.save(folder / ROW, row)
    found: dict[str, list[dict[str, float]]] = {"tree_shap": [], "xgboost": []}
    for _ in range(1 if is_quick() else 5):
        for library, runs in found.items():
            runs.append(fresh_process("subjects.explanation", library, folder))
    return found


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
        first = first_explanations(path, features.values[0])
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
    for metric, unit in (("wall", "s"), ("peak", "MiB")):
        name = f"first_explanation_{metric}"
        report.add(name, unit, {k: [each[metric] for each in runs] for k, runs in first.items()})
        report.ratio("xgboost", "tree_shap", name)
    report.target("xgboost_over_onnx_one_row", ">=", 4.0)
    report.target("pyfunc_over_onnx_one_row", ">=", 50.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
