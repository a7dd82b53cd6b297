"""The features that a model takes, in the version that it was trained on.

A model that was trained before the definitions changed is answered from the stored rows of its
own version. Attributes of a request are computed by the present functions, which is the same
where the present definitions still contain all of the version's, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import Engine
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.schema_changes import schema_changes, summary
from feature_store.offline_store import missing_vector
from serving.errors import AttributesUnusable
from serving.prediction.missing_attributes import MissingAttributes
from serving.prediction.stored_features import StoredFeatures, StoredFeatureSource

Matrix = NDArray[np.float32]
FeatureInputs = tuple[Mapping[str, object], StoredFeatures | None]
"""Raw attributes by name, and the stored features that they replace, if any."""


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
        names = [name for name in schema.names if name in engine.schema.positions]
        present = engine.schema.select(names).model_inputs
        self._changes = schema_changes(schema.model_inputs.meaning, present.meaning)
        self._places = np.array([engine.schema.position(name) for name in present.names], dtype=int)
        self._nothing = engine.row({})
        self.missing = MissingAttributes(schema)

    def key(self, entity: int) -> str:
        """Where Redis holds the stored features of an entity."""
        return self.stored.key(entity)

    async def read(self, entity: int, now_us: int, key: str | None = None) -> StoredFeatures:
        """Read the stored features of one entity; ``key`` is what messages call it."""
        return await self.stored.read(entity, now_us, key)

    def vectors(self, asked: Sequence[FeatureInputs]) -> Matrix:
        """The vectors ``(n, p)`` of stored features in which attributes are replaced.

        Words that open vocabularies have learned since the model was trained are unseen.

        Raises
        ------
        AttributesUnusable
            If there are attributes and the version cannot be computed any more.
        """
        return self.schema.known_codes(self._vectors(asked))

    def _vectors(self, asked: Sequence[FeatureInputs]) -> Matrix:
        computed = [at for at, (given, stored) in enumerate(asked) if given or stored is None]
        if len(computed) == len(asked):
            return self._compute(asked)
        values = self._unpack(asked)
        if computed:
            values[computed] = self._compute([asked[at] for at in computed])
        return values

    def _compute(self, asked: Sequence[FeatureInputs]) -> Matrix:
        """The vectors by the present functions, where these can compute the version."""
        if self._changes:
            raise AttributesUnusable(
                f"The model takes version {self.schema.fingerprint} of '{self.schema.view}', which "
                f"cannot be computed from attributes any more: {summary(self._changes)}. Send a "
                "known user without attributes, or deploy a model of the present features."
            )
        attributes = [given for given, _ in asked]
        if all(stored is None for _, stored in asked):
            present = self.engine.rows(attributes)
        else:
            present = self.engine.overrides(self._present(self._unpack(asked)), attributes)
        return present if self._is_present else np.ascontiguousarray(present[:, self._places])

    def _unpack(self, asked: Sequence[FeatureInputs]) -> Matrix:
        nothing = self.stored.nothing
        packed = [nothing if stored is None else stored.packed for _, stored in asked]
        return np.frombuffer(bytearray().join(packed), "<f4").reshape(len(asked), -1)

    def _present(self, values: Matrix) -> Matrix:
        """Vectors of this version as the present one has them, what it lacks missing."""
        if self._is_present:
            return values
        present = np.tile(self._nothing, (len(values), 1))
        present[:, self._places] = values
        return present


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
        self.stored = whole.stored
        self._chosen = np.array([whole.schema.position(name) for name in schema.names], dtype=int)
        self.missing = MissingAttributes(schema)

    def vectors(self, asked: Sequence[FeatureInputs]) -> Matrix:
        """The vectors ``(n, q)`` of the chosen features; see `ModelFeatures.vectors`."""
        return np.ascontiguousarray(self.whole.vectors(asked)[:, self._chosen])


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
        self, engine: Engine, source: Callable[[FeatureSchema, Matrix], StoredFeatureSource]
    ) -> None:
        self.engine = engine
        self.source = source
        self._known: dict[tuple[str, tuple[tuple[str, ...], ...]], ModelFeatures] = {}

    def of(self, schema: FeatureSchema) -> ModelFeatures:
        """The features of a version."""
        name = schema.fingerprint, tuple(schema.words.values())
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._made(schema)
        return known

    def _made(self, schema: FeatureSchema) -> ModelFeatures:
        if schema.whole is not None:
            return SelectedFeatures(schema, self.of(schema.whole))
        is_present = schema.fingerprint == self.engine.schema.fingerprint
        view = self.engine.view
        engine = Engine(view.with_words(schema.words)) if schema.words else self.engine
        nothing = engine.row({}) if is_present else missing_vector(schema)
        return ModelFeatures(schema, engine, self.source(schema, nothing))
