"""The first explanation of a process: imports, reading the model, the contributions of one row.

``python -m benchmarks.subjects.explanation tree_shap|xgboost FOLDER`` prints the seconds and MiB.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.harness.memory import measured

ROW = "row.npy"


def explain(library: str, folder: Path) -> object:
    """Explain the row of the folder by the model that lies there."""
    row = np.load(folder / ROW)
    if library == "xgboost":
        import xgboost

        booster = xgboost.Booster(model_file=folder / "model.ubj")
        rows = xgboost.DMatrix(row[np.newaxis], feature_names=booster.feature_names)
        booster.feature_types = None
        return booster.predict(rows, pred_contribs=True)
    from models.trees.forest import FILE, Forest
    from models.trees.tree_shap import TreeExplainer

    forest = Forest.read_npz((folder / FILE).read_bytes())
    return TreeExplainer(forest, len(row)).contributions(row)


if __name__ == "__main__":
    print(json.dumps(measured(lambda: explain(sys.argv[1], Path(sys.argv[2])))[1]))
