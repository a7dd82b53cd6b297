"""Gradient-boosted trees with native categories and missing values (XGBoost)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from configs.training_config import XGBoostConfig
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from models.base import (
    Features,
    OnRound,
    Values,
    feature_matrix,
    refuse_other_schema,
    share_cores,
)
from models.errors import ArtifactError, TrainingRefused
from models.rows.split import Part
from models.tabular_model import TabularModel, refuse_other_features, refuse_unordered
from models.trees.forest import FILE as FOREST, Forest, forest_of

if TYPE_CHECKING:
    import xgboost

    from models.onnx.graph import Graph

MODEL, SUFFIX = "model", ".ubj"
ATTRIBUTE = "fti"
"""Under which the booster carries what else makes up the model, as JSON."""


class XGBoostModel(TabularModel):
    """Boosted trees that take category codes and NaN as they are.

    Examples
    --------
    >>> XGBoostModel({"learning_rat": 0.1})
    Traceback (most recent call last):
    ...
    models.errors.TrainingRefused: XGBoost has no parameter 'learning_rat' here. Did you mean
    'learning_rate'?
    """

    family: ClassVar[str] = "xgboost"
    title: ClassVar[str] = "XGBoost"
    label_prefix: ClassVar[str] = "xgb"
    config = XGBoostConfig
    params: XGBoostConfig
    file: ClassVar[str] = MODEL + SUFFIX
    """Name of the native file of a model that is by itself in its folder."""

    def _forget(self) -> None:
        self.most_rounds = self.params.n_estimators
        self._booster: xgboost.Booster | None = None

    def _learn(
        self,
        rows: Part,
        validation: Part | None,
        weights: NDArray[np.float32] | None,
        on_round: OnRound | None,
    ) -> None:
        share_cores()
        import xgboost

        train = self._binned(rows, weights)
        options: dict[str, Any] = {}
        if validation is not None:
            options["evals"] = [(self._binned(validation, like=train), "validation")]
            options["early_stopping_rounds"] = self.params.early_stopping_rounds
        booster = xgboost.train(
            self._native_params(rows.features.schema),
            train,
            self.most_rounds,
            verbose_eval=False,
            callbacks=[_progress(on_round)] if on_round else [],
            **options,
        )
        self._booster = booster if validation is None else booster[: booster.best_iteration + 1]

    def _probabilities(self, matrix: FeatureMatrix) -> Values:
        probabilities: Values = self._fitted.predict(self._exact(matrix))
        return probabilities

    def importance(self) -> dict[str, float]:
        """Share of each feature in the total gain of all splits, largest first."""
        gain: dict[str, Any] = dict(self._fitted.get_score(importance_type="total_gain"))
        total = sum(gain.values()) or 1.0
        names = self.schema.names if self.schema else ()
        shares = {name: gain.get(name, 0.0) / total for name in names}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def contributions(self, features: Features) -> NDArray[np.float64]:
        """What each feature adds to the log-odds, and what all start from: ``(n, p + 1)``."""
        matrix = feature_matrix(features)
        refuse_other_schema(self.schema, matrix.schema)
        shares = self._fitted.predict(self._exact(matrix), pred_contribs=True)
        return np.asarray(shares, dtype=np.float64)

    def facts(self) -> dict[str, int | float | str]:
        """How many trees answer, and from which probability on the prediction is 1."""
        return {"n_trees": int(self._fitted.num_boosted_rounds()), "threshold": self.threshold}

    def to_onnx(self) -> bytes:
        """The trees as an ONNX graph: ``features`` (n, p) in, ``probability`` (n, 2) out."""
        from models.onnx.tree_graph import trees_to_onnx

        return trees_to_onnx(self.forest(), self._fitted.num_features())

    @classmethod
    def add_logit(cls, graph: Graph, models: Sequence[Self], share: float) -> str:
        """Add ``share`` times the sum of the models' logits to a graph, ``(n, 1)``."""
        from models.onnx.tree_graph import add_trees

        return add_trees(graph, [model.forest() for model in models], share)

    def forest(self) -> Forest:
        """The trees as arrays."""
        return forest_of(bytes(self._fitted.save_raw("json")))

    def save(self, folder: Path, name: str = MODEL) -> None:
        """Write ``model.ubj``: the trees, with threshold, parameters and fingerprint inside.

        A model that is by itself in its folder has its trees as arrays beside it, in `FOREST`.
        """
        booster = self._fitted
        booster.set_attr(**{ATTRIBUTE: json.dumps(self._about())})
        booster.save_model(folder / f"{name}{SUFFIX}")
        if name == MODEL:
            (folder / FOREST).write_bytes(self.forest().to_npz())

    @classmethod
    def load(cls, folder: Path, schema: FeatureSchema, name: str = MODEL) -> Self:
        """Read what `save` wrote for features of this schema.

        Check the file's hash first (`open_artifact`): XGBoost may crash on altered bytes.

        Raises
        ------
        ArtifactError
            If the file is not there, or was written for other features.
        """
        path = folder / f"{name}{SUFFIX}"
        booster = read_booster(path)
        about = json.loads(booster.attr(ATTRIBUTE) or "{}")
        refuse_other_features(path, about.get("schema_fingerprint"), schema)
        model = cls(about["params"], seed=about["seed"])
        model.threshold, model.schema, model._booster = about["threshold"], schema, booster
        return model

    @property
    def _fitted(self) -> xgboost.Booster:
        if self._booster is None:
            raise TrainingRefused("The model has not been fitted; call fit first.")
        return self._booster

    def _native_params(self, schema: FeatureSchema) -> dict[str, Any]:
        refuse_unordered(self.params.monotone_constraints, schema)
        apart = {"n_estimators", "early_stopping_rounds"}
        return self.params.model_dump(exclude=apart) | {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "device": "cpu",
            "nthread": os.cpu_count(),
            "seed": self.seed,
        }

    def _binned(
        self,
        rows: Part,
        weights: NDArray[np.float32] | None = None,
        like: xgboost.QuantileDMatrix | None = None,
    ) -> xgboost.QuantileDMatrix:
        import xgboost

        return xgboost.QuantileDMatrix(
            rows.features.values,
            rows.labels,
            weight=weights,
            ref=like,
            max_bin=self.params.max_bin,
            **_description(rows.features.schema),
        )

    def _exact(self, matrix: FeatureMatrix) -> xgboost.DMatrix:
        import xgboost

        return xgboost.DMatrix(matrix.values, **_description(matrix.schema))


def _progress(on_round: OnRound) -> xgboost.callback.TrainingCallback:
    from xgboost.callback import TrainingCallback

    class Progress(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            on_round(1)
            return False

    return Progress()


def read_booster(path: Path, threads: int | None = None) -> xgboost.Booster:
    """Read a native XGBoost file.

    Parameters
    ----------
    threads
        How many a call may use; None for one a core.

    Raises
    ------
    ArtifactError
        If it is not there or not readable.
    """
    share_cores()
    import xgboost

    booster = xgboost.Booster({"nthread": threads or os.cpu_count()})
    try:
        booster.load_model(path)
    except xgboost.core.XGBoostError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(f"Cannot read the XGBoost model {path}: {reason}") from error
    return booster


def _description(schema: FeatureSchema) -> dict[str, Any]:
    """What XGBoost must know of the columns, and the threads it may use."""
    kinds = ["c" if feature.kind == "category" else "q" for feature in schema.features]
    return {
        "feature_names": list(schema.names),
        "feature_types": kinds,
        "enable_categorical": True,
        "nthread": os.cpu_count(),
    }
