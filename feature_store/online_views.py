"""Rows of one entity in several views, read in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feature_store.errors import EntityNotFound
from feature_store.online.row_codec import Row
from feature_store.online_store import OnlineStore, translated


def read_views(stores: Sequence[OnlineStore], entity: int) -> list[Row | None]:
    """The row of an entity in each view; None where it has none, or an expired one.

    Parameters
    ----------
    stores
        One a view, all in one Redis.

    Raises
    ------
    EntityNotFound
        If it has no row in any of them.
    SchemaMismatch
        If a version is being filled, or only other versions are stored.
    StoreUnavailable
        If Redis does not answer within the client's timeout.
    """
    pipeline = stores[0].client.pipeline(transaction=False)
    for store in stores:
        pipeline.hget(store.versions.states_key, store.schema.definition_fingerprint)
    pipeline.mget([store.key(entity) for store in stores])
    with translated("read"):
        *states, replies = pipeline.execute()
    rows = [
        _row(store, entity, state, packed)
        for store, state, packed in zip(stores, states, replies, strict=True)
    ]
    if all(row is None for row in rows):
        with translated("read"):
            for store in stores:
                store.versions.require_stored()
        views = " or ".join(store.schema.view for store in stores)
        raise EntityNotFound(
            f"No online features for {views} {entity}. Known entities are those that the feature "
            "pipeline has written."
        )
    return rows


def _row(store: OnlineStore, entity: int, state: Any, packed: bytes | None) -> Row | None:
    store.versions.refuse_filling(state)
    [row] = store.decode([entity], [packed])
    return None if row is None or store.expired(row) else row
