"""What every family of models offers and shares: fitting, a threshold, metrics, native files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from configs.errors import did_you_mean
from configs.training_config import DecisionConfig
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from models.base import (
    Features,
    Labels,
    OnRound,
    Values,
    feature_matrix,
    label_array,
    refuse_one_class,
    refuse_other_schema,
)
from models.errors import ArtifactError, TrainingRefused
from models.evaluation import metrics
from models.evaluation.metrics import ThresholdObjective
from models.rows.split import Part

if TYPE_CHECKING:
    import pandas as pd

Config = TypeVar("Config", bound=BaseModel)


class TabularModel(ABC):
    """A binary classifier over the features of a view.

    Features are a `FeatureMatrix`, or a frame as `get_training_data` gives it.

    Parameters
    ----------
    params
        Values of ``config`` by name; what is not named has its default there.
    seed
        Equal seeds, rows and threads give equal models.
    threshold_objective, decision
        How the threshold is chosen on rows that the model did not learn from; see
        `metrics.choose_threshold`.
    """

    family: ClassVar[str]
    """The name that settings and command lines use."""
    title: ClassVar[str]
    """The name that people read."""
    label_prefix: ClassVar[str]
    """What the labels of registered versions begin with, behind the name of the model."""
    learns_from_validation: ClassVar[bool] = False
    """Whether it learns from validation rows too: these can set nothing right afterwards then."""
    config: ClassVar[type[BaseModel]]
    """The section of the settings with its parameters."""
    params: Any
    """Of that section; each family says its type."""
    threshold: float
    """From this probability on the prediction is 1."""
    schema: FeatureSchema | None
    """The features that it was fitted on."""
    most_rounds: int
    """Rounds of training that there can be; it may stop earlier."""

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        threshold_objective: ThresholdObjective = "balanced",
        decision: DecisionConfig = metrics.USUAL_DECISION,
    ) -> None:
        self.params = validated_params(self.config, params or {}, self.title)
        self.seed = seed
        self.threshold_objective = threshold_objective
        self.decision = decision
        self.threshold = metrics.HALF
        self.schema = None
        self._forget()

    def fit(
        self,
        features: Features,
        labels: Labels | pd.Series,
        *,
        validation: tuple[Features, Labels | pd.Series] | None = None,
        weights: NDArray[np.float32] | None = None,
        on_round: OnRound | None = None,
    ) -> Self:
        """Learn from ``(n, p)`` features and ``(n,)`` labels; return the model itself.

        With validation rows, training ends when their log loss no longer falls, the best rounds
        are kept, and the threshold is chosen on them; without, all rounds are gone through and
        the threshold is 0.5. A family that learns from validation rows too decides otherwise.

        Raises
        ------
        TrainingRefused
            If the labels are all equal.
        """
        rows, held_out = Part(feature_matrix(features), label_array(labels)), None
        refuse_one_class(rows.labels, "Training")
        if validation is not None:
            held_out = Part(feature_matrix(validation[0]), label_array(validation[1]))
            refuse_other_schema(rows.features.schema, held_out.features.schema)
        self._learn(rows, held_out, weights, on_round)
        self.schema = rows.features.schema
        if held_out is not None and not self.learns_from_validation:
            self._choose_threshold(held_out.labels, self._probabilities(held_out.features))
        return self

    def predict_proba(self, features: Features) -> Values:
        """Probability of label 1, float32 ``(n,)``.

        Raises
        ------
        SchemaMismatch
            If the model was fitted on other features.
        """
        matrix = feature_matrix(features)
        refuse_other_schema(self.schema, matrix.schema)
        return self._probabilities(matrix)

    def evaluate(self, features: Features, labels: Labels | pd.Series) -> dict[str, float]:
        """Metrics on rows that the model has not seen, by name; see `metrics.metrics`."""
        return metrics.metrics(label_array(labels), self.predict_proba(features), self.threshold)

    @abstractmethod
    def importance(self) -> dict[str, float]:
        """Share of each feature in what the model learned; they sum to 1."""

    @abstractmethod
    def facts(self) -> dict[str, int | float | str]:
        """What training decided by itself, such as the number of trees, by name."""

    @abstractmethod
    def to_onnx(self) -> bytes:
        """The model as an ONNX graph: ``features`` (n, p) in, ``probability`` (n, 2) out."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the native files, from which `load` makes an equal model."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, schema: FeatureSchema) -> Self:
        """Read what `save` wrote for features of this schema."""

    @abstractmethod
    def _forget(self) -> None:
        """Set what fitting fills to nothing."""

    @abstractmethod
    def _learn(
        self,
        rows: Part,
        validation: Part | None,
        weights: NDArray[np.float32] | None,
        on_round: OnRound | None,
    ) -> None:
        """Learn from rows of both labels; validation rows have the same schema."""

    @abstractmethod
    def _probabilities(self, matrix: FeatureMatrix) -> Values:
        """Probability of label 1, ``(n,)``, of rows of the schema that the model was fitted on."""

    def _choose_threshold(self, labels: Labels, probabilities: Values) -> None:
        self.threshold = metrics.choose_threshold(
            labels, probabilities, self.threshold_objective, self.decision
        )

    def _about(self) -> dict[str, Any]:
        """What makes up the model besides its arrays, as JSON values."""
        return {
            "params": self.params.model_dump(),
            "seed": self.seed,
            "threshold": self.threshold,
            "schema_fingerprint": self.schema.fingerprint if self.schema else None,
        }


def validated_params(config: type[Config], params: Mapping[str, Any], family: str) -> Config:
    """Read parameters by name; what is not named has its default.

    Raises
    ------
    TrainingRefused
        If a name is not known or a value unusable; the message names it.

    Examples
    --------
    >>> from configs.training_config import XGBoostConfig
    >>> validated_params(XGBoostConfig, {"max_depth": 0}, "XGBoost")
    Traceback (most recent call last):
    ...
    models.errors.TrainingRefused: XGBoost's parameter 'max_depth' has the value 0: Input should be
    greater than or equal to 1.
    """
    known = list(config.model_fields)
    for name in params:
        if name not in known:
            raise TrainingRefused(f"{family} has no parameter '{name}' here. {_hint(name, known)}")
    try:
        return config(**params)
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(str(part) for part in problem["loc"])
        raise TrainingRefused(
            f"{family}'s parameter '{path}' has the value {problem['input']!r}: {problem['msg']}."
        ) from error


def refuse_unordered(constraints: Mapping[str, int], schema: FeatureSchema) -> None:
    """Refuse constraints on features that are not there, or that have no more and less.

    Raises
    ------
    TrainingRefused
        If a name is not that of a number; the message gives the nearest.
    """
    numbers = [feature.name for feature in schema.features if feature.kind != "category"]
    for name in constraints:
        if name not in numbers:
            raise TrainingRefused(
                f"monotone_constraints names '{name}', which is not a number among the features "
                f"of the model. {_hint(name, numbers)}"
            )


def _hint(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known).strip() or f"Known: {', '.join(known)}."


def read_about(path: Path, schema: FeatureSchema) -> dict[str, Any]:
    """Read the JSON that describes a model of features of this schema.

    Raises
    ------
    ArtifactError
        If the file is not there, is no such JSON, or describes a model of other features.
    """
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        fingerprint = about["schema_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"Cannot read the model {path}: {error!r}. Train again.") from error
    refuse_other_features(path, fingerprint, schema)
    return about


def refuse_other_features(path: Path, fingerprint: str | None, schema: FeatureSchema) -> None:
    """Raise `ArtifactError` if a file describes a model of features with another fingerprint."""
    if fingerprint != schema.fingerprint:
        raise ArtifactError(
            f"{path} was trained on schema {fingerprint}; given is {schema.fingerprint}. "
            "Train again with the present features."
        )


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an NPZ file; one with a pickle in it is refused.

    Raises
    ------
    ArtifactError
        If it is not there or not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # damaged archives raise errors of many types
        raise ArtifactError(f"Cannot read the arrays {path}: {error!r}. Train again.") from error
