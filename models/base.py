"""What all modules of this room share: types, how frames get in, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.cleaning import LARGEST_EXACT_INTEGER
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import SchemaMismatch
from feature_store.feature_definitions import MODEL_VIEW
from models.errors import TrainingRefused

if TYPE_CHECKING:
    import pandas as pd

Features: TypeAlias = "FeatureMatrix | pd.DataFrame"
Values = NDArray[np.float32]
Labels = NDArray[np.int8]
OnRound = Callable[[int], object]
"""Called while a model trains with how many more rounds are done."""


class Classifier(Protocol):
    """Anything that gives rows a probability."""

    def predict_proba(self, features: Features) -> Values:
        """Probability of label 1, float32 ``(n,)``."""


def feature_matrix(features: Features) -> FeatureMatrix:
    """Give a frame's features (words and numbers by column) as a matrix; a matrix as it is.

    Raises
    ------
    UnknownFeature
        If a column is not a feature of the view.
    InvalidValue
        If a whole number would be another one as a float32.
    """
    if isinstance(features, FeatureMatrix):
        return features
    schema = MODEL_VIEW.schema
    names = [str(name) for name in features.columns]
    if names != list(schema.names):
        schema = schema.select(names)
    values = np.empty((len(features), len(schema)), dtype=np.float32)
    for place, feature in enumerate(schema.features):
        column = features[feature.name]
        if feature.kind == "category":
            words: Mapping[object, float] = {w: feature.encode(w) for w in column.dropna().unique()}
            values[:, place] = column.map(words).fillna(feature.encode(None))
        else:
            values[:, place] = column.to_numpy(dtype=np.float32, na_value=np.nan)
            for row in np.flatnonzero(np.abs(values[:, place]) >= LARGEST_EXACT_INTEGER):
                feature.encode(column.iloc[row])  # refuses what became another whole number
    n = len(features)
    return FeatureMatrix(
        values, np.arange(n, dtype=np.int64), np.zeros(n, dtype="datetime64[us]"), schema
    )


def label_array(labels: Labels | pd.Series) -> Labels:
    """Give labels as int8 ``(n,)``."""
    return np.asarray(labels, dtype=np.int8)


def refuse_one_class(labels: Labels, what: str) -> None:
    """Refuse labels that are not both there.

    Raises
    ------
    TrainingRefused
        If there are no labels, or all are equal.
    """
    ones = int(np.count_nonzero(labels == 1))
    if 0 < ones < len(labels):
        return
    found = f"{len(labels):,} rows, all with label {int(ones > 0)}" if len(labels) else "no rows"
    raise TrainingRefused(
        f"{what} needs rows of both labels; given are {found}. Widen the range of dates."
    )


def narrowed(matrix: FeatureMatrix, schema: FeatureSchema) -> FeatureMatrix:
    """Give a matrix of all features of a view with those that a model takes.

    Words that its open vocabularies have learned since are unseen to the model.
    """
    if matrix.schema.fingerprint == schema.fingerprint and not schema.open_features:
        return matrix
    places = [matrix.schema.position(name) for name in schema.names]
    values = schema.known_codes(np.ascontiguousarray(matrix.values[:, places]))
    return FeatureMatrix(values, matrix.keys, matrix.times, schema)


def refuse_other_schema(fitted: FeatureSchema | None, given: FeatureSchema) -> None:
    """Refuse features that a model was not fitted on.

    Raises
    ------
    SchemaMismatch
        If names, order or meaning differ; the message says which are missing.
    """
    if fitted is None:
        raise SchemaMismatch("The model has not been fitted; call fit first, or load a saved one.")
    if fitted.fingerprint == given.fingerprint:
        return
    absent = sorted(set(fitted.names) - set(given.names))
    more = sorted(set(given.names) - set(fitted.names))
    differs = f"missing: {', '.join(absent)}" if absent else f"too many: {', '.join(more)}"
    raise SchemaMismatch(
        f"The model expects {len(fitted)} features (schema {fitted.fingerprint}); given are "
        f"{len(given)} (schema {given.fingerprint}"
        f"{'; ' + differs if absent or more else '; same names, other order or meaning'}). "
        "Retrieve the features that it was trained on."
    )


def share_cores() -> None:
    """Let threads that wait for each other sleep; call it before XGBoost or scikit-learn is loaded.

    By default they spin, and on cores that other programs use too a training then takes many
    times as long. On free cores it makes no difference. Both libraries bring the same OpenMP, of
    which the first one loaded serves both, and which reads this once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
