"""The online store: one packed row an entity in Redis, newest event wins, every read bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import Created, FeatureMatrix, created_times
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import EntityNotFound, StoreUnavailable
from feature_store.online.conditional_write import MOST_ROWS, Batch, write_newest
from feature_store.online.deadline import deadline_of
from feature_store.online.row_codec import Codec, Row, RowCodec, microseconds_of, row_prefix
from feature_store.online.versions import OnlineVersions
from feature_store.online.windowed_row_codec import ActivityCodec, ActivityRows

if TYPE_CHECKING:
    from redis import Redis


class OnlineStore:
    """Rows of one feature view in Redis.

    Parameters
    ----------
    client
        A redis-py client with ``socket_timeout`` set: a stopped server must not hang a read. One
        of `connect.redis_client` ends each read within it as a whole, and not each wait of it.
    project
        Prefix of the keys: ``{project}:{view}:{fingerprint, 8 characters}:{entity key}``.
    schema
        Names, kinds and fingerprint of the view.
    ttl
        Age of the event time beyond which a row reads as absent; None for never.
    clock
        Gives the time as of which rows are read.
    """

    def __init__(
        self,
        client: Redis,
        project: str,
        schema: FeatureSchema,
        ttl: timedelta | None = None,
        write_batch_rows: int = 500,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.client = client
        self.project = project
        self.prefix = row_prefix(project, schema)
        self.versions = OnlineVersions(client, project, schema)
        self.schema = schema
        windowed = schema.is_windowed
        self.codec: Codec = ActivityCodec(schema) if windowed else RowCodec(schema)
        self.clock = clock
        self.ttl = ttl
        self.write_batch_rows = write_batch_rows

    def key(self, entity: int) -> str:
        """The Redis key of an entity."""
        return f"{self.prefix}{entity}"

    def of(self, schema: FeatureSchema, ttl: timedelta | None = None) -> OnlineStore:
        """The store, over the same client, of another version of the view or of another view."""
        return OnlineStore(
            *(self.client, self.project, schema, ttl, self.write_batch_rows, self.clock)
        )

    def write(self, matrix: FeatureMatrix | ActivityRows, created: Created) -> int:
        """Write rows where they are newer than what is stored; return how many were.

        Each row becomes visible at once and whole. Rows may come in any order and more than once;
        many are best written block by block, as they are made.

        Parameters
        ----------
        created
            When the store learned the rows: one time for all, or datetime64 ``(n,)`` in UTC.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer in time, is full, or refuses the write.
        """
        with translated("write"):
            self.versions.register()
            return write_newest(self.client, self._batches(matrix, created))

    def _packed(
        self, matrix: FeatureMatrix | ActivityRows, part: slice, created: NDArray[np.datetime64]
    ) -> list[bytes]:
        values: Any = matrix.values[part]
        rows = values, matrix.keys[part], matrix.times[part], created[part]
        exact = matrix.exact if isinstance(matrix, FeatureMatrix) else None
        if exact is None or not isinstance(self.codec, RowCodec):
            return self.codec.encode(*rows)
        return self.codec.encode(*rows, exact=exact[part])

    def _batches(self, matrix: FeatureMatrix | ActivityRows, created: Created) -> Iterator[Batch]:
        times, size = created_times(created, len(matrix)), min(self.write_batch_rows, MOST_ROWS)
        prefix = self.prefix.encode()
        for start in range(0, len(matrix), size):
            part = slice(start, start + size)
            entities = matrix.keys[part]
            keys = [b"%b%d" % (prefix, entity) for entity in entities.tolist()]
            yield (
                keys,
                self._packed(matrix, part, times),
            )

    def delete(self) -> int:
        """Delete every row of this version; walks the keys. Returns how many there were."""
        deleted = 0
        with translated("delete"):
            for key in self.client.scan_iter(f"{self.prefix}*", count=10_000):
                unlinked: Any = self.client.unlink(key)
                deleted += unlinked
            self.versions.forget()
        return deleted

    def read(self, entity: int) -> Row:
        """Read one row.

        Raises
        ------
        EntityNotFound
            If there is no row, or its event time is older than the TTL.
        SchemaMismatch
            If the store holds only other versions of the view, or this one is being filled.
        StoreUnavailable
            If Redis does not answer within the client's timeout.
        """
        with deadline_of(self.client):
            [row] = self.read_many([entity])
            if row is not None:
                return row
            with translated("read"):
                self.versions.require_stored()
        raise EntityNotFound(
            f"No online features for {self.schema.view} {entity}. Known entities are those "
            "that the feature pipeline has written."
        )

    def read_many(self, entities: Sequence[int]) -> list[Row | None]:
        """Read rows in one round trip, in order; None where there is none or it has expired."""
        rows = self.read_even_expired(entities)
        return [None if row is not None and self.expired(row) else row for row in rows]

    def read_even_expired(self, entities: Sequence[int]) -> list[Row | None]:
        """`read_many` without a look at the age of the rows."""
        with translated("read"), deadline_of(self.client):
            self.versions.require_ready()
            replies: Any = self.client.mget([self.key(entity) for entity in entities])
        return self.decode(entities, replies)

    def decode(self, entities: Sequence[int], replies: Sequence[bytes | None]) -> list[Row | None]:
        """Rows out of what Redis holds under the entities' keys, expired ones too."""
        now = self.clock()
        return [
            None if packed is None else self.codec.decode(entity, packed, now)
            for entity, packed in zip(entities, replies, strict=True)
        ]

    def count(self) -> int:
        """How many entities have a row; walks the keys."""
        with translated("read"):
            return sum(1 for _ in self.client.scan_iter(f"{self.prefix}*", count=10_000))

    def expired(self, row: Row) -> bool:
        """Whether the row's event is older than the TTL."""
        if self.ttl is None:
            return False
        return row.event_time_us < microseconds_of(self.clock() - self.ttl)


def delete_rows(client: Redis, project: str, view: str) -> None:
    """Delete every row of all versions of a view; walks the keys."""
    with translated("delete"):
        for key in client.scan_iter(f"{project}:{view}:*", count=10_000):
            client.unlink(key)


@contextmanager
def translated(verb: str) -> Iterator[None]:
    """Turn an error of the Redis client into `StoreUnavailable`."""
    from redis.exceptions import OutOfMemoryError, RedisError

    try:
        yield
    except OutOfMemoryError as error:
        raise StoreUnavailable(
            f"Redis did not {verb}: it is full ({error}). Rows that are stored stay and can be "
            "read. Raise its `maxmemory`, or delete versions that no model reads "
            "(`python -m feature_store drop-version`), then run again."
        ) from error
    except RedisError as error:
        raise StoreUnavailable(
            f"Redis did not {verb}: {error}. Does it run (`make status`)?"
        ) from error


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
