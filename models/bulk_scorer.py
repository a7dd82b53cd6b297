"""The engines for many rows at once: on all cores, native where there is a native library.

Their answers agree with those of `scorer` to 1e-5, not to the bit, and say which engine gave them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import ModelArtifact
from models.evaluation.calibration import Calibration
from models.onnx.scorer import OnnxScorer
from models.xgboost_model import XGBoostModel, read_booster

BLOCK = 4_096
"""Rows that a graph answers at once: a network needs some 20 kB for each while it does."""


class BulkScorer:
    """Answers many rows with the native XGBoost model; several threads may ask it at once.

    Parameters
    ----------
    model
        Path of the native file, with its calibration, if any, beside it; check their hashes
        first (`open_artifact`).
    threads
        How many answer one call; None for one a core. A row has the same bits with any number.
    """

    engine = "xgboost"

    def __init__(self, model: Path, threads: int | None = None) -> None:
        self._booster = read_booster(model, threads)
        self._calibration = Calibration.read_beside(model)
        # The layout was checked by the schema's fingerprint; without names rows go in uncopied.
        self._booster.feature_names = None
        self._booster.feature_types = None

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of label 1, float32 ``(n,)``, for float32 ``(n, p)``."""
        probabilities: NDArray[np.float32] = self._booster.inplace_predict(values)
        return self._calibration(probabilities) if self._calibration else probabilities

    def contributions(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each feature adds to the log-odds of a row, before calibration: ``(n, p)``."""
        import xgboost

        rows = xgboost.DMatrix(values)
        found: NDArray[np.float32] = self._booster.predict(rows, pred_contribs=True)
        return found[:, :-1].astype(np.float64)


class ParallelScorer:
    """Answers many rows with the ONNX graph of any family; several threads may ask it at once.

    Parameters
    ----------
    model
        The graph's bytes; check their hash first (`open_artifact`).
    p
        How many features it must take.
    threads
        How many answer one call; None for one a core. More than one may change the last bits.
    """

    engine = "onnx-parallel"

    def __init__(self, model: bytes, p: int, threads: int | None = None) -> None:
        self._scorer = OnnxScorer(model, p, threads or os.cpu_count() or 1)

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of label 1, float32 ``(n,)``, for float32 ``(n, p)``."""
        blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
        found = [self._scorer.predict(block) for block in blocks]
        return np.concatenate([np.empty(0, np.float32), *found])


def bulk_scorer(artifact: ModelArtifact, threads: int | None = None) -> BulkScorer | ParallelScorer:
    """The quickest engine for many rows that the family of a model has."""
    if artifact.family == XGBoostModel.family:
        return BulkScorer(artifact.path / XGBoostModel.file, threads)
    return ParallelScorer(artifact.read("model.onnx"), len(artifact.features), threads)
