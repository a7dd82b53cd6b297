"""Keys as Feast's callers give them, column by column, and the identities behind them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from feature_store.definitions.entity import Entity
from feature_store.feast_plugin.offline.point_in_time import like
from feature_store.offline.entity_keys import find_keys
from feature_store.offline.postgres import Postgres


def identities_of(entity: Entity, columns: Mapping[str, pl.Series]) -> pl.Series:
    """The identity ``(n,)`` behind each asked key; null where there is no whole key.

    Parameters
    ----------
    columns
        By the names of the key's parts, in any order.

    Raises
    ------
    InvalidValue
        If one is no such key; of whole numbers such a key has no identity.

    Examples
    --------
    >>> identities_of(Entity("plane", key="string"), {"plane": pl.Series(["N14228", None])})[0]
    803770263630268844
    """
    parts = [columns[name] for name in entity.columns]
    if entity.is_whole:
        return like(parts[0], pl.Int64())
    keys = list(zip(*(part.to_list() for part in parts), strict=True))
    whole = np.array([None not in key for key in keys], dtype=bool)
    given = [key if len(key) > 1 else key[0] for key in keys if None not in key]
    found = np.zeros(len(keys), dtype=np.int64)
    found[whole] = entity.identities(entity.texts_of(given))
    return pl.Series("key", found).set(pl.Series(~whole), None)


def key_columns(
    postgres: Postgres, entity: Entity, identities: NDArray[np.int64]
) -> dict[str, pa.Array]:
    """The columns ``(n,)`` of the keys behind identities ``(n,)``."""
    if entity.is_whole:
        return {entity.columns[0]: pa.array(identities)}
    unique, places = np.unique(identities, return_inverse=True)
    texts = find_keys(postgres, entity, unique)
    keys = [{} if text is None else entity.values(entity.parse(text)) for text in texts]
    types = {"integer": pa.int64(), "string": pa.string()}
    return {
        part.name: pa.array([key.get(part.name) for key in keys], types[part.type]).take(places)
        for part in entity.parts
    }
