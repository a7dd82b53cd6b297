"""All entities that the offline store knows as of a time, in order of their keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from feature_store.definitions.schema import FeatureSchema
from feature_store.offline_store import OfflineStore
from pipelines.batch.keys import Keys

EVERY_KEY = -(2**63), 2**63 - 1


def entities(
    offline: OfflineStore,
    schema: FeatureSchema,
    entity: str,
    *,
    as_of: datetime,
    known_by: datetime,
    keys: tuple[int, int] = EVERY_KEY,
) -> Iterator[Keys]:
    """Keys that have an event before a time, in blocks as they arrive.

    Parameters
    ----------
    as_of
        Events before this time.
    known_by
        Only rows that the store had learned by then.
    keys
        The first and last key to look at.
    """
    query = (
        f"SELECT DISTINCT {entity} FROM {offline.table(schema)} "
        f"WHERE {entity} BETWEEN '{keys[0]}' AND '{keys[1]}' "
        f"AND event_timestamp < '{as_of.isoformat()}' "
        f"AND created_timestamp <= '{known_by.isoformat()}' ORDER BY {entity}"
    )
    for block in offline.postgres.stream(query):
        yield block[entity].to_numpy()
