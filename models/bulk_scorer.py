"""The engine for many rows at once: the native library, on all cores.

Its answers agree with those of `scorer` to 1e-5, not to the bit, and say which engine gave them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration
from models.xgboost_model import read_booster


class BulkScorer:
    """Answers many rows on all cores with the native XGBoost model.

    Parameters
    ----------
    model
        Path of the native file, with its calibration, if any, beside it; check their hashes
        first (`open_artifact`).
    """

    engine = "xgboost"

    def __init__(self, model: Path) -> None:
        self._booster = read_booster(model)
        self._calibration = Calibration.beside(model)
        # The layout was checked by the schema's fingerprint; without names rows go in uncopied.
        self._booster.feature_names = None
        self._booster.feature_types = None

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of label 1, float32 ``(n,)``, for float32 ``(n, p)``."""
        probabilities: NDArray[np.float32] = self._booster.inplace_predict(values)
        return self._calibration(probabilities) if self._calibration else probabilities
