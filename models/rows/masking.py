"""Rows in which attributes are absent, as requests are: made by hiding and computing anew.

A model that only saw complete rows answers nonsense where attributes are absent. So training rows
are repeated with random attributes hidden, and every run measures what is left of its quality when
only some attributes are present, or none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.training_config import MaskingConfig
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.schema import MISSING, UNSEEN, FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.errors import UnknownFeature
from models.base import Labels, narrowed

Mask = NDArray[np.bool_]
"""``(n, g)``: which of the view's ``g`` attribute groups are meant in which row."""


@dataclass(frozen=True)
class WeightedRows:
    """Rows to learn from: features ``(n, p)``, labels int8 ``(n,)``, weights float32 ``(n,)``."""

    features: FeatureMatrix
    labels: Labels
    weights: NDArray[np.float32]


class Masker:
    """Hides raw attributes of a view's vectors; what derives from them is computed again.

    Attributes that follow from each other are hidden together (`FeatureView.attribute_groups`).

    Parameters
    ----------
    view
        Defines how features are computed.
    schema
        Those that a model takes, when it does not take all: vectors in and out have only them.
        None of them may derive from an attribute that is not among them.

    Examples
    --------
    >>> from feature_store.feature_definitions import MODEL_VIEW
    >>> masker = Masker(MODEL_VIEW)
    >>> complete = masker.engine.row({"age": 50, "education": "Masters"})[np.newaxis]
    >>> hidden = masker.hide(complete, masker.all_but(1, present={"age"}))
    >>> decoded = masker.engine.schema.decode(hidden[0])
    >>> decoded["age"], decoded["education"], decoded["years_of_school"]
    (50, None, None)
    """

    def __init__(self, view: FeatureView, schema: FeatureSchema | None = None) -> None:
        self.engine = Engine(view)
        self.schema = (schema or self.engine.schema).model_inputs
        self.raw = tuple(f for f in self.engine.raw if f.name in self.schema.positions)
        self._raw_places = [self.schema.position(feature.name) for feature in self.raw]
        self._places = [self.engine.schema.position(name) for name in self.schema.names]
        names = {feature.name for feature in self.raw}
        present = (tuple(n for n in group if n in names) for group in view.attribute_groups)
        self.groups = tuple(group for group in present if group)
        self._group_of = {
            name: number for number, group in enumerate(self.groups) for name in group
        }

    def narrow(self, matrix: FeatureMatrix) -> FeatureMatrix:
        """Give a matrix of the whole view with those features that the model takes."""
        return narrowed(matrix, self.schema)

    def hide(
        self, values: NDArray[np.float32], hidden: Mask, unseen: Mask | None = None
    ) -> NDArray[np.float32]:
        """Compute ``(n, p)`` vectors as if the hidden groups were absent.

        Categories where ``unseen`` holds get the code of a word outside the vocabulary.
        """
        columns = {}
        for feature, place in zip(self.raw, self._raw_places, strict=True):
            group = self._group_of[feature.name]
            absent = MISSING if feature.kind == "category" else np.nan
            columns[feature.name] = np.where(hidden[:, group], absent, values[:, place])
            if unseen is not None and feature.kind == "category":
                columns[feature.name][unseen[:, group]] = UNSEEN
        return self._taken(self.engine.table(columns))

    def all_but(self, n: int, present: Collection[str]) -> Mask:
        """Hide in ``n`` rows every group without one of the ``present`` attributes.

        Raises
        ------
        UnknownFeature
            If an attribute is not a raw column of the view.
        """
        view = self.engine.view
        for name in present:
            if name not in view.attributes:
                raise UnknownFeature(
                    f"'{name}' is not a raw column of '{view.name}'. "
                    f"Known: {', '.join(sorted(view.attributes))}."
                )
        arrays = [view.arrays[name] for name in present if name in view.arrays]
        there = {*present, *(name for array in arrays for name in array.members)}
        there |= {f.name for f in view.timed_features if set(f.inputs) & set(present)}
        hidden = [not set(group) & there for group in self.groups]
        return np.tile(np.array(hidden), (n, 1))

    def random(self, n: int, all_missing_share: float, random: np.random.Generator) -> Mask:
        """Draw for every row a share of groups to hide, uniform in [0, 1), and which ones."""
        share = random.random((n, 1))
        hidden: Mask = random.random((n, len(self.groups))) < share
        hidden[random.random(n) < all_missing_share] = True
        return hidden

    def with_copies(
        self, features: FeatureMatrix, labels: Labels, config: MaskingConfig, seed: int
    ) -> WeightedRows:
        """Put masked copies behind the rows, each with the label of its original."""
        random = np.random.default_rng(seed)
        n, values = len(features), [features.values]
        for _ in range(config.copies):
            hidden = self.random(n, config.all_missing_share, random)
            unseen = hidden & (random.random(hidden.shape) < config.unseen_share)
            values.append(self.hide(features.values, hidden, unseen))
        repeated = np.tile(np.arange(n), 1 + config.copies)
        weights = np.full(len(repeated), config.weight, dtype=np.float32)
        weights[:n] = 1
        matrix = FeatureMatrix(
            np.concatenate(values),
            features.keys[repeated],
            features.times[repeated],
            features.schema,
        )
        return WeightedRows(matrix, labels[repeated], weights)

    def _taken(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of vectors ``(n, p)`` of the whole view, the features that the model takes."""
        if self.schema.names == self.engine.schema.names:
            return values
        return np.ascontiguousarray(values[:, self._places])
