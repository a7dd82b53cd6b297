"""Why a model answers as it does: what each feature adds to the log-odds of one row.

Trees are explained exactly; any other model is asked what each feature changes, in random orders,
beginning from rows of its example. Either way base and contributions sum to the margin.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import ModelArtifact
from models.deployment.record import Arm
from models.onnx.scorer import OnnxScorer
from models.trees.forest import FILE as FOREST, Forest
from models.trees.tree_shap import TreeExplainer
from serving.model_loader import LoadedModel, ModelLoader

KEPT = 2
CALIBRATION = "calibration.json"
ORDERS = 16
NEAREST = 1e-7
"""So far probabilities stay from 0 and 1, where log-odds end."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the features add to the log-odds of one row.

    Parameters
    ----------
    contributions
        float64 ``(p,)``.
    base
        Log-odds before any feature is known.
    margin
        Log-odds of the row: base and all contributions.
    probability
        What the model answers; of a calibrated model after calibration, which comes after the sum.
    method
        How the contributions were found, in words.
    """

    contributions: Numbers
    base: float
    margin: float
    probability: float
    method: str


class Explainer:
    """Explains rows in the calling thread; what is made of a model for that is kept.

    Parameters
    ----------
    loader
        Gives artifacts.
    """

    def __init__(self, loader: ModelLoader) -> None:
        self.loader = loader
        self._kept: OrderedDict[str, TreeExplainer | SampledExplainer] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def explain(self, arm: Arm, model: LoadedModel, vector: NDArray[np.float32]) -> Explanation:
        """Explain what a model answers to one vector ``(p,)``.

        Raises
        ------
        ModelUnusable
            If its artifact cannot be had.
        """
        explainer = self._explainer(arm, model)
        contributions = explainer.contributions(vector)
        probability = model.probability(vector)
        base = explainer.base
        exact = isinstance(explainer, TreeExplainer)
        method = "TreeSHAP, exact" if exact else f"Shapley values from {ORDERS} random orders"
        return Explanation(
            contributions, base, base + float(contributions.sum()), probability, method
        )

    def _explainer(self, arm: Arm, model: LoadedModel) -> TreeExplainer | SampledExplainer:
        with self._one_at_a_time:
            if model.digest not in self._kept:
                self._kept[model.digest] = _explainer(self.loader.artifact(arm), model.scorer)
            self._kept.move_to_end(model.digest)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[model.digest]


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
            mixed = np.tile(start, (len(row) + 1, 1))
            for step, place in enumerate(order.tolist()):
                mixed[step + 1 :, place] = row[place]
            total[order] += np.diff(self._log_odds(mixed)) / ORDERS
        return total

    def _log_odds(self, values: NDArray[np.float32]) -> Numbers:
        p = np.clip(self.scorer.predict(values).astype(np.float64), NEAREST, 1 - NEAREST)
        odds: Numbers = np.log(p) - np.log1p(-p)
        return odds


def _explainer(artifact: ModelArtifact, scorer: OnnxScorer) -> TreeExplainer | SampledExplainer:
    if FOREST in artifact.files:
        return TreeExplainer(Forest.read_npz(artifact.read(FOREST)), len(artifact.features))
    return SampledExplainer(scorer, artifact.example()[0])
