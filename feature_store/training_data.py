"""Training sets: labels joined with the features as they were at each label's time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.arrays import gather
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.schema import FIRST_KNOWN, FeatureSchema
from feature_store.errors import FeatureStoreError
from feature_store.offline.entity_keys import find_keys
from feature_store.offline_store import Labels, OfflineStore
from feature_store.references import Reference, by_view, refuse_several_entities

if TYPE_CHECKING:
    import pandas as pd
PANDAS_TYPES = {
    **{"int64": "Int64", "float64": "float64"},
    **{"string": "string", "timestamp": "datetime64[us, UTC]"},
}


@dataclass(frozen=True)
class TrainingRows:
    """Features as of the label times, with the labels.

    Parameters
    ----------
    features
        ``(n, p)``, by entity key.
    labels
        int8 ``(n,)``, 0 or 1.
    key_texts
        Each entity's key as one text ``(n,)``, where it is no whole number.
    """

    features: FeatureMatrix
    labels: NDArray[np.int8]
    key_texts: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def training_rows(
    store: OfflineStore,
    schema: FeatureSchema,
    entity: str,
    start: datetime,
    end: datetime,
    *,
    ttl: timedelta | None = None,
    known_by: datetime | None = None,
) -> TrainingRows:
    """Join labels in ``[start, end)`` with the features as of their times; no entity twice a time.

    Labels without any features at their time are left out: there is nothing to learn from them.

    Parameters
    ----------
    known_by
        Only what the store had learned by then, of labels as of features.

    Raises
    ------
    FeatureStoreError
        If the range is empty or holds no labels.
    """
    labels = _labels(store, start, end, known_by)
    features, found = store.historical(
        schema, entity, labels.keys, labels.times, ttl=ttl, known_by=known_by
    )
    _refuse_nothing_known(store, schema, found, known_by)
    features, texts = features.rows(found), None
    # After the rows were read: no code of theirs stands for a word that is not among them.
    features = replace(features, schema=store.vocabularies.schema(schema))
    if schema.key is not None:
        texts = np.array(find_keys(store.postgres, schema.key, features.keys), dtype=object)
    return TrainingRows(features, labels.values[found], texts)


def training_frame(
    store: OfflineStore,
    references: Sequence[Reference],
    label_column: str,
    start: datetime,
    end: datetime,
    *,
    ttl: timedelta | None = None,
    known_by: datetime | None = None,
) -> tuple[pd.DataFrame, pd.Series]:
    """`training_rows` of features of several views, decoded for people, in the order asked for.

    Labels of entities that no view knows at their time are left out.

    Raises
    ------
    FeatureStoreError
        If the range is empty or holds no labels, or the views are about several entities.
    """
    import pandas as pd

    refuse_several_entities(references)
    labels, entity = _labels(store, start, end, known_by), references[0].view.key
    matrices, known = {}, np.zeros(len(labels), dtype=bool)
    for view, schema in by_view(references):
        matrix, found = store.historical(
            schema, view.entity, labels.keys, labels.times, ttl=ttl, known_by=known_by
        )
        matrices[view.name] = replace(matrix, schema=store.vocabularies.schema(schema))
        known |= found
    _refuse_nothing_known(store, by_view(references)[0][1], known, known_by)
    matrices = {name: matrix.rows(known) for name, matrix in matrices.items()}
    index = _index_of(store, entity, labels.keys[known])
    columns = {
        each.name: decoded(matrix, each.name)
        for each in references
        for matrix in [matrices[each.view.name]]
    }
    return pd.DataFrame(columns, index), pd.Series(labels.values[known], index, name=label_column)


def _refuse_nothing_known(
    store: OfflineStore,
    schema: FeatureSchema,
    found: NDArray[np.bool_],
    known_by: datetime | None,
) -> None:
    """Raise when no label has features at its time."""
    if found.any():
        return
    since = store.versions.readable(schema).created_at
    why = "at their times"
    if known_by is not None:
        why = (
            f"that the store knew by {known_by.isoformat(timespec='seconds')}; this version of "
            f"'{schema.view}' is kept since {since.isoformat(timespec='seconds')}"
        )
    raise FeatureStoreError(
        f"None of {len(found):,} labels has features {why}. Take another range, or look at an "
        "entity: python -m feature_store history --key …"
    )


def _index_of(store: OfflineStore, entity: Entity, identities: NDArray[np.int64]) -> pd.Index:
    """The keys behind identities ``(n,)``, one level a part."""
    import pandas as pd

    if entity.is_whole:
        return pd.Index(identities, name=entity.name)
    texts = [text or "" for text in find_keys(store.postgres, entity, identities)]
    if len(entity.parts) == 1:
        return pd.Index(texts, name=entity.columns[0])
    keys = [tuple(entity.values(entity.parse(text)).values()) for text in texts]
    return pd.MultiIndex.from_tuples(keys, names=entity.columns)


def decoded(matrix: FeatureMatrix, name: str) -> Any:
    """One column ``(n,)`` by its name as people know it: of an exact column, its own values.

    An array is a list a row, None where it is missing.
    """
    import pandas as pd

    if (places := matrix.schema.arrays.get(name)) is not None:
        rows = matrix.values[:, list(places.values())].tolist()
        return pd.Series([gather(row) for row in rows], dtype=object).array
    place = matrix.schema.exact_positions.get(name)
    if place is None or matrix.exact is None:
        return decoded_column(matrix, matrix.schema.position(name))
    values = matrix.exact[:, place].tolist()
    return pd.array(values, dtype=PANDAS_TYPES[matrix.schema.exact[place].type])


def decoded_column(matrix: FeatureMatrix, place: int) -> Any:
    """One decoded column ``(n,)``: words, nullable whole numbers or float32."""
    import pandas as pd

    feature, column = matrix.schema.features[place], matrix.values[:, place]
    if feature.kind == "category":
        words = np.array([None] * FIRST_KNOWN + list(feature.categories), dtype=object)
        return words.take(column.astype(np.int64))
    if feature.kind == "boolean":
        return pd.Series(column).astype("boolean").array
    if feature.kind == "integer":
        return pd.Series(column).astype("Int64").array
    return column


def _labels(
    store: OfflineStore, start: datetime, end: datetime, known_by: datetime | None = None
) -> Labels:
    if end <= start:
        raise FeatureStoreError(
            f"The range [{start:%Y-%m-%d}, {end:%Y-%m-%d}) is empty; "
            "the end must be after the start."
        )
    labels = store.labels(start, end, known_by=known_by)
    if not len(labels):
        raise FeatureStoreError(
            f"No labels in [{start:%Y-%m-%d}, {end:%Y-%m-%d}). Run "
            "`python pipelines/feature_pipeline.py` first, or widen the range."
        )
    return labels
