"""Several families at once: their logits blended with weights learned out of fold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from configs.training_config import EnsembleConfig
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from models.base import Features, Labels, OnRound, Values
from models.errors import TrainingRefused
from models.evaluation.metrics import Numbers, logits_of
from models.neural_network import NeuralNetworkModel
from models.rows.split import Part, fold_numbers, joined, originals
from models.tabular_model import TabularModel, read_about
from models.xgboost_model import XGBoostModel

NEWTON_STEPS = 20
"""It is quadratic near the end, and some 8 suffice from nothing."""
RIDGE = 1e-3
"""Against a sum of some rows: it decides where members say the same, and nothing else."""


@dataclass(frozen=True)
class Blend:
    """A weighted sum of the members' logits, and an offset.

    Weights are not negative. They need not sum to 1, and with the offset they calibrate the sum
    as Platt's method does.
    """

    weights: tuple[float, ...]
    offset: float

    def probabilities(self, logits: Numbers) -> Values:
        """Probability of label 1, float32 ``(n,)``, of members' logits ``(n, m)``."""
        # Added up member by member: a product with the weights would differ by batch.
        total = np.full(len(logits), self.offset)
        for weight, column in zip(self.weights, logits.T, strict=True):
            total = total + weight * column
        answers: Values = (1 / (1 + np.exp(-total))).astype(np.float32)
        return answers


def fit_blend(logits: Numbers, labels: Labels) -> Blend:
    """Find the blend of logits ``(n, m)`` with the least log loss on labels ``(n,)``.

    The rows must be out of fold: logits of rows that a member learned from favour the member that
    overfits most.
    """
    n, m = logits.shape
    supports = [some for k in range(m + 1) for some in combinations(range(m), k)]
    found: list[tuple[float, Blend]] = []
    for some in supports:  # the best non-negative blend is the best of the members that it uses
        weights, loss = _unbounded(np.column_stack([logits[:, some], np.ones(n)]), labels)
        if (weights[:-1] >= 0).all():
            spread = np.zeros(m)
            spread[list(some)] = weights[:-1]
            found.append((loss, Blend(tuple(spread.tolist()), float(weights[-1]))))
    return min(found, key=lambda each: each[0])[1]


def _unbounded(inputs: Numbers, labels: Labels) -> tuple[Numbers, float]:
    """Logistic regression by Newton's method: weights, and the mean log loss that they reach."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(inputs @ weights)))
        curvature = (inputs.T * (p * (1 - p))) @ inputs + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, inputs.T @ (p - labels) + RIDGE * weights)
        weights = weights - step
    total = inputs @ weights
    return weights, float(np.mean(np.logaddexp(0, total) - labels * total))


ABOUT_FILE = "ensemble.json"
Member = XGBoostModel | NeuralNetworkModel
MEMBERS: Mapping[str, Any] = {
    member.family: member for member in (XGBoostModel, NeuralNetworkModel)
}


class EnsembleModel(TabularModel):
    """A model of each family for each fold; each answers for the rows that it has not seen.

    Rows are divided into folds. Each family learns once for each fold, from the other folds, and
    stops early on the fold. What these models say about their fold decides how much each family
    counts, and the threshold. All of them answer: the mean over the folds is steadier than one
    model of all rows.

    Validation rows that are given are learned from as well. Of rows with the same key the first
    counts as the complete one.
    """

    family: ClassVar[str] = "ensemble"
    title: ClassVar[str] = "Ensemble"
    label_prefix: ClassVar[str] = "ens"
    learns_from_validation: ClassVar[bool] = True
    config = EnsembleConfig
    params: EnsembleConfig

    def _forget(self) -> None:
        self.most_rounds = self.params.folds * len(self.params.members)
        self.members: dict[str, list[Member]] = {}
        self._blend = Blend((), 0)

    def _learn(
        self,
        rows: Part,
        validation: Part | None,
        weights: NDArray[np.float32] | None,
        on_round: OnRound | None,
    ) -> None:
        matrix, known = rows.features, rows.labels
        shares = np.ones(len(known), np.float32) if weights is None else weights
        if validation is not None:
            matrix = joined(matrix, validation.features)
            known = np.concatenate([known, validation.labels])
            shares = np.concatenate([shares, np.ones(len(validation), np.float32)])
        logits = self._fit_members(matrix, known, shares, on_round)
        complete = originals(matrix)
        self._blend = fit_blend(logits[complete], known[complete])
        self._choose_threshold(known[complete], self._blend.probabilities(logits[complete]))

    def _probabilities(self, matrix: FeatureMatrix) -> Values:
        logits = np.empty((len(matrix), len(self._fitted)))
        for column, models in enumerate(self._fitted.values()):
            answers = [logits_of(model.predict_proba(matrix)) for model in models]
            logits[:, column] = sum(answers) / len(answers)
        return self._blend.probabilities(logits)

    def member_probabilities(self, features: Features) -> dict[str, Values]:
        """Probability of label 1 by family: what each would answer by itself."""
        alone = Blend((1.0,), 0.0)
        return {
            family: alone.probabilities(
                np.mean([logits_of(m.predict_proba(features)) for m in models], axis=0)[:, None]
            )
            for family, models in self._fitted.items()
        }

    def importance(self) -> dict[str, float]:
        """Share of each feature: the members' shares, weighted as the members are."""
        total = sum(self._blend.weights) or 1.0
        shares = dict.fromkeys(self.schema.names if self.schema else (), 0.0)
        for weight, models in zip(self._blend.weights, self._fitted.values(), strict=True):
            for model in models:
                for name, share in model.importance().items():
                    shares[name] += weight * share / (len(models) * total)
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def facts(self) -> dict[str, int | float | str]:
        """What each family counts, and from which probability on the prediction is 1."""
        counts = zip(self._fitted, self._blend.weights, strict=True)
        weights = {f"weight_{family}": weight for family, weight in counts}
        return {**weights, "offset": self._blend.offset, "threshold": self.threshold}

    def to_onnx(self) -> bytes:
        """All members as one ONNX graph: ``features`` (n, p) in, ``probability`` (n, 2) out."""
        from models.onnx.graph import LANES, Graph

        graph = Graph(len(self.schema or ()))
        total = graph.constant([[self._blend.offset] * LANES])
        counts = zip(self._fitted.items(), self._blend.weights, strict=True)
        for (family, models), weight in counts:
            logit = MEMBERS[family].add_logit(graph, models, weight / len(models))
            total = graph.add("Add", total, logit)
        return graph.answer(total)

    def save(self, folder: Path) -> None:
        """Write the members' files, and ``ensemble.json``, what else makes up the model."""
        for family, models in self._fitted.items():
            for fold, model in enumerate(models):
                model.save(folder, f"{family}_{fold}")
        about = self._about() | {"weights": self._blend.weights, "offset": self._blend.offset}
        (folder / ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, schema: FeatureSchema) -> Self:
        """Read what `save` wrote for features of this schema.

        Raises
        ------
        ArtifactError
            If a file is not there or not readable, or was written for other features.
        """
        about = read_about(folder / ABOUT_FILE, schema)
        model = cls(about["params"], seed=about["seed"])
        model.schema, model.threshold = schema, about["threshold"]
        model._blend = Blend(tuple(about["weights"]), about["offset"])
        for family in model.params.members:
            model.members[family] = [
                MEMBERS[family].load(folder, schema, f"{family}_{fold}")
                for fold in range(model.params.folds)
            ]
        return model

    @property
    def _fitted(self) -> dict[str, list[Member]]:
        if not self.members:
            raise TrainingRefused("The model has not been fitted; call fit first.")
        return self.members

    def _fit_members(
        self,
        matrix: FeatureMatrix,
        labels: Labels,
        weights: NDArray[np.float32],
        on_round: OnRound | None,
    ) -> Numbers:
        """Fit every family on every fold; return the logits out of fold, ``(n, families)``."""
        folds = fold_numbers(matrix, labels, self.params.folds, self.seed)
        complete, logits = originals(matrix), np.zeros((len(labels), len(self.params.members)))
        self.members = {family: [] for family in self.params.members}
        for fold, (column, family) in product(
            range(self.params.folds), enumerate(self.params.members)
        ):
            out = folds == fold
            learned, judged = np.flatnonzero(~out), np.flatnonzero(out & complete)
            params = getattr(self.params, family).model_dump()
            model = MEMBERS[family](params, seed=self.seed + fold).fit(
                matrix.rows(learned),
                labels[learned],
                validation=(matrix.rows(judged), labels[judged]),
                weights=weights[learned],
            )
            logits[out, column] = logits_of(model.predict_proba(matrix.rows(np.flatnonzero(out))))
            self.members[family].append(model)
            if on_round:
                on_round(1)
        return logits
