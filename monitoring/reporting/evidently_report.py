"""Evidently's full drift report, for people: HTML and JSON of a pass, and a run of its UI.

It is made of rows, not of histograms, and takes seconds; the profile of every minute is made by
`feature_drift`. Both use the same index and threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.definitions.engine import FeatureMatrix
from feature_store.training_data import decoded_column

if TYPE_CHECKING:
    import pandas as pd

WORKSPACE = "evidently"
PROJECT = "drift"


@dataclass(frozen=True)
class FullReport:
    """Where a report lies."""

    html: Path
    json: Path
    workspace: Path


def full_report(
    reference: FeatureMatrix, current: FeatureMatrix, folder: Path, name: str, psi: float
) -> FullReport:
    """Make Evidently's report of two matrices of the same features.

    Parameters
    ----------
    folder
        ``{name}.html`` and ``.json`` are written there, and the workspace ``evidently`` beside,
        which ``evidently ui --workspace`` shows.
    psi
        From this index on a feature has drifted.
    """
    from evidently.ui.workspace import Workspace

    before, now = decoded(reference), decoded(current)
    both = [name for name in before.columns if name in now.columns]
    snapshot = run(before[both], now[both], psi)
    folder.mkdir(parents=True, exist_ok=True)
    report = FullReport(folder / f"{name}.html", folder / f"{name}.json", folder / WORKSPACE)
    snapshot.save_html(str(report.html))
    snapshot.save_json(str(report.json))
    workspace = Workspace(str(report.workspace))
    found = workspace.search_project(PROJECT)
    project = found[0] if found else workspace.create_project(PROJECT)
    workspace.add_run(project.id, snapshot)
    return report


def run(reference: pd.DataFrame, current: pd.DataFrame, psi: float, method: str = "psi") -> Any:
    """Run Evidently's preset on two frames with the same columns; give its snapshot."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    words = [name for name in reference.columns if reference[name].dtype == object]
    definition = DataDefinition(
        numerical_columns=[name for name in reference.columns if name not in words],
        categorical_columns=words,
    )
    data = [Dataset.from_pandas(frame, definition) for frame in (current, reference)]
    preset = DataDriftPreset(
        method=method, threshold=psi, columns=[str(name) for name in reference.columns]
    )
    return Report([preset]).run(*data)


def decoded(matrix: FeatureMatrix) -> pd.DataFrame:
    """Rows as Evidently takes them: floats, and words; columns without any value are left out."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for place, feature in enumerate(matrix.schema.features):
        if feature.kind == "category":
            words = pd.Series(decoded_column(matrix, place), dtype=object)
            columns[feature.name] = words.fillna("missing")
        elif not np.isnan(matrix.values[:, place]).all():
            columns[feature.name] = matrix.values[:, place].astype(np.float64)
    return pd.DataFrame(columns)


def sampled(matrix: FeatureMatrix, most: int, seed: int = 0) -> FeatureMatrix:
    """At most so many rows, chosen at random."""
    if len(matrix) <= most:
        return matrix
    return matrix.rows(np.sort(np.random.default_rng(seed).permutation(len(matrix))[:most]))
