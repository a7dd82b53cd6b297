"""Why a model answers as it does: what each feature adds to the log-odds of one row.

Trees are explained exactly; any other model is asked what each feature changes, in random orders,
beginning from rows of its example. Either way base and contributions sum to the margin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infrastructure.work import checkpoint
from models.artifact.artifact import ModelArtifact
from models.onnx.scorer import OnnxScorer
from models.trees.forest import FILE as FOREST, Forest
from models.trees.tree_shap import TreeExplainer

ORDERS = 16
NEAREST = 1e-7
"""So far probabilities stay from 0 and 1, where log-odds end."""

Numbers = NDArray[np.float64]


def explainer_of(
    artifact: ModelArtifact, scorer: OnnxScorer
) -> tuple[TreeExplainer | SampledExplainer, str]:
    """Make what explains a model's answers; say in words how it finds contributions."""
    if FOREST in artifact.files:
        forest = Forest.read_npz(artifact.read(FOREST))
        return TreeExplainer(forest, len(artifact.features)), "TreeSHAP, exact"
    sampled = SampledExplainer(scorer, artifact.example()[0])
    return sampled, f"Shapley values from {ORDERS} random orders"


class SampledExplainer:
    """Estimates Shapley values by asking a model; they sum exactly.

    Parameters
    ----------
    scorer
        The model.
    background
        float32 ``(n, p)``: rows that stand for not knowing a feature.
    """

    def __init__(self, scorer: OnnxScorer, background: NDArray[np.float32]) -> None:
        self.scorer = scorer
        p = background.shape[1]
        random = np.random.default_rng(0)  # the same row is explained in the same way
        self._orders = [random.permutation(p) for _ in range(ORDERS)]
        self._starts = background[np.arange(ORDERS) % len(background)]
        self.base = float(self._log_odds(self._starts).mean())

    def contributions(self, row: NDArray[np.float32]) -> Numbers:
        """What each feature adds to ``base`` for one vector ``(p,)``: float64 ``(p,)``."""
        total = np.zeros(len(row))
        for order, start in zip(self._orders, self._starts, strict=True):
            checkpoint()
            mixed = np.tile(start, (len(row) + 1, 1))
            for step, place in enumerate(order.tolist()):
                mixed[step + 1 :, place] = row[place]
            total[order] += np.diff(self._log_odds(mixed)) / ORDERS
        return total

    def _log_odds(self, values: NDArray[np.float32]) -> Numbers:
        p = np.clip(self.scorer.predict(values).astype(np.float64), NEAREST, 1 - NEAREST)
        odds: Numbers = np.log(p) - np.log1p(-p)
        return odds
