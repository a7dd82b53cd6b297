from datetime import timedelta

import numpy as np
import pytest

from feature_store.errors import SchemaMismatch, StoreUnavailable
from feature_store.rows import Row
from monitoring.prediction_record import Flags
from serving.errors import UnknownEntity
from serving.features import StoredFeatureSource

NOTHING = np.full(3, np.nan, dtype=np.float32)
DAY_US = 24 * 3600 * 1_000_000
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


class Reader:
    """A reader whose rows and failures are given."""

    def __init__(self, *users: int) -> None:
        self.rows = {user: Row(user, user * DAY_US, 0, np.full(3, user, "f4")) for user in users}
        self.failure: Exception | None = None

    async def read(self, entity: int) -> Row | None:
        if self.failure is not None:
            raise self.failure
        return self.rows.get(entity)


def source_of(reader, ttl=None, remembered=2):
    return StoredFeatureSource(reader, "user_id", NOTHING, ttl, remembered)


async def test_stored_features_come_with_the_time_of_their_event():
    features = await source_of(Reader(7)).read(7, now_us=8 * DAY_US)

    assert features.vector.tolist() == [7, 7, 7]
    assert (features.event_time_us, features.flags) == (7 * DAY_US, Flags.NONE)


async def test_somebody_unknown_is_named():
    with pytest.raises(UnknownEntity, match=r"no features for user_id 8\. Send its attributes, or"):
        await source_of(Reader(7)).read(8, now_us=0)


async def test_stale_features_are_taken_as_missing_and_flagged():
    source = source_of(Reader(1), ttl=timedelta(days=10))

    fresh = await source.read(1, now_us=11 * DAY_US)
    stale = await source.read(1, now_us=11 * DAY_US + 1)

    assert fresh.flags == Flags.NONE
    assert (stale.vector is NOTHING, stale.flags) == (True, Flags.FEATURES_STALE)
    assert stale.event_time_us == DAY_US


async def test_features_of_another_definition_are_taken_as_missing_and_flagged():
    reader = Reader(1)
    reader.failure = SchemaMismatch("another schema")
    features = await source_of(reader).read(1, now_us=0)

    assert (features.vector is NOTHING, features.flags) == (True, Flags.FEATURES_OUTDATED)


async def test_without_the_store_the_last_features_are_used_and_others_are_missing():
    reader = Reader(1)
    source = source_of(reader)
    await source.read(1, now_us=0)
    reader.failure = StoreUnavailable("gone")

    cached, missing = await source.read(1, now_us=0), await source.read(2, now_us=0)

    assert (cached.vector.tolist(), cached.flags) == ([1, 1, 1], Flags.FEATURES_CACHED)
    assert (missing.vector is NOTHING, missing.flags) == (True, Flags.FEATURES_UNAVAILABLE)


async def test_remembered_features_grow_stale_too():
    reader = Reader(1)
    source = source_of(reader, ttl=timedelta(days=10))
    await source.read(1, now_us=0)
    reader.failure = StoreUnavailable("gone")

    features = await source.read(1, now_us=20 * DAY_US)
    assert features.flags == Flags.FEATURES_CACHED | Flags.FEATURES_STALE
    assert features.vector is NOTHING


async def test_only_so_many_users_are_remembered_the_latest_ones():
    reader = Reader(1, 2, 3)
    source = source_of(reader, remembered=2)
    for user in (1, 2, 1, 3):
        await source.read(user, now_us=0)
    reader.failure = StoreUnavailable("gone")

    flags = [(await source.read(user, now_us=0)).flags for user in (1, 2, 3)]
    assert flags == [Flags.FEATURES_CACHED, Flags.FEATURES_UNAVAILABLE, Flags.FEATURES_CACHED]


async def test_somebody_who_was_deleted_is_not_remembered():
    reader = Reader(1)
    source = source_of(reader)
    await source.read(1, now_us=0)
    del reader.rows[1]
    with pytest.raises(UnknownEntity):
        await source.read(1, now_us=0)
    reader.failure = StoreUnavailable("gone")

    assert (await source.read(1, now_us=0)).flags == Flags.FEATURES_UNAVAILABLE
