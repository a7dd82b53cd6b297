"""The features that a model takes, in the version that it was trained on.

A model that was trained before the definitions changed is answered from the stored rows of its
own version. Attributes of a request are computed by the present functions, which is the same
where the present definitions still contain all of the version's, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from feature_store.engine import Engine
from feature_store.offline_store import missing_vector
from feature_store.registry import FIRST_KNOWN, FeatureSchema
from feature_store.schema_changes import schema_changes, summary
from serving.errors import AttributesUnusable
from serving.features import StoredFeatures, StoredFeatureSource

Vector = NDArray[np.float32]


class ModelFeatures:
    """Gives vectors of one version of the view.

    Parameters
    ----------
    schema
        The version.
    engine
        Computes the present version.
    stored
        Reads the version's stored rows.
    """

    def __init__(self, schema: FeatureSchema, engine: Engine, stored: StoredFeatureSource) -> None:
        self.schema = schema
        self.engine = engine
        self.stored = stored
        self._is_present = schema.fingerprint == engine.schema.fingerprint
        present = engine.schema.select([n for n in schema.names if n in engine.schema.positions])
        self._changes = schema_changes(schema.meaning, present.meaning)
        self._places = np.array([engine.schema.position(name) for name in present.names], dtype=int)
        self._nothing = engine.row({})
        self._raw = _raw_of(schema)

    async def read(self, entity: int, now_us: int) -> StoredFeatures:
        """Read the stored features of one entity."""
        return await self.stored.read(entity, now_us)

    def vector(self, attributes: Mapping[str, object], stored: StoredFeatures | None) -> Vector:
        """The vector ``(p,)`` of stored features in which attributes are replaced.

        Raises
        ------
        AttributesUnusable
            If there are attributes and the version cannot be computed any more.
        """
        if stored is not None and not attributes:
            return stored.vector
        if self._is_present:
            return self._computed(attributes, None if stored is None else stored.vector)
        if self._changes:
            raise AttributesUnusable(
                f"The model takes version {self.schema.fingerprint} of '{self.schema.view}', which "
                f"cannot be computed from attributes any more: {summary(self._changes)}. Send a "
                "known user without attributes, or deploy a model of the present features."
            )
        vector = None
        if stored is not None:
            vector = self._nothing.copy()
            vector[self._places] = stored.vector
        present = self._computed(attributes, vector)
        return np.ascontiguousarray(present[self._places])

    def missing(self, vector: Vector) -> list[str]:
        """Names of the raw columns that are missing or unseen in a vector ``(p,)``."""
        values = vector.tolist()
        return [
            name
            for name, place, is_category in self._raw
            if values[place] != values[place] or (is_category and values[place] < FIRST_KNOWN)
        ]

    def _computed(self, attributes: Mapping[str, object], vector: Vector | None) -> Vector:
        if vector is None:
            return self.engine.row(attributes)
        return self.engine.override(vector, attributes)


class SelectedFeatures(ModelFeatures):
    """Gives vectors of some features of a version, out of whole ones.

    Parameters
    ----------
    schema
        Some of the features of `whole`.
    """

    def __init__(self, schema: FeatureSchema, whole: ModelFeatures) -> None:
        self.schema = schema
        self.whole = whole
        self._chosen = np.array([whole.schema.position(name) for name in schema.names], dtype=int)
        self._raw = _raw_of(schema)

    async def read(self, entity: int, now_us: int) -> StoredFeatures:
        """Read the stored features of one entity: those of the whole version."""
        return await self.whole.read(entity, now_us)

    def vector(self, attributes: Mapping[str, object], stored: StoredFeatures | None) -> Vector:
        """The vector ``(q,)`` of the chosen features; see `ModelFeatures.vector`."""
        return np.ascontiguousarray(self.whole.vector(attributes, stored)[self._chosen])


class FeatureVersions:
    """The features of every version that some model takes.

    Parameters
    ----------
    engine
        Computes the present version.
    source
        Builds the reader of a version's stored rows: takes its schema, and the vector ``(p,)`` in
        which everything is missing.
    """

    def __init__(
        self, engine: Engine, source: Callable[[FeatureSchema, Vector], StoredFeatureSource]
    ) -> None:
        self.engine = engine
        self.source = source
        self._known: dict[str, ModelFeatures] = {}

    def of(self, schema: FeatureSchema) -> ModelFeatures:
        """The features of a version."""
        known = self._known.get(schema.fingerprint)
        if known is None and schema.whole is not None:
            known = SelectedFeatures(schema, self.of(schema.whole))
            self._known[schema.fingerprint] = known
        if known is None:
            is_present = schema.fingerprint == self.engine.schema.fingerprint
            nothing = self.engine.row({}) if is_present else missing_vector(schema)
            known = ModelFeatures(schema, self.engine, self.source(schema, nothing))
            self._known[schema.fingerprint] = known
        return known


def _raw_of(schema: FeatureSchema) -> list[tuple[str, int, bool]]:
    """Name and place of the raw columns, and whether they are categories."""
    return [
        (name, place, feature.kind == "category")
        for place, (name, feature) in enumerate(zip(schema.names, schema.features, strict=True))
        if not feature.inputs
    ]
