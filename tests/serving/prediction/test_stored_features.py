from datetime import timedelta

import numpy as np
import pytest

from feature_store.definitions.schema import FeatureDefinition, FeatureSchema
from feature_store.errors import StoreUnavailable
from feature_store.online.row_codec import RowCodec
from monitoring.log.record import Flags
from serving.errors import UnknownEntity
from serving.prediction.stored_features import StoredFeatureSource

SCHEMA = FeatureSchema("three", tuple(FeatureDefinition(n, "number", "") for n in "abc"))
CODEC = RowCodec(SCHEMA)
NOTHING = np.full(3, np.nan, dtype=np.float32)
DAY_US = 24 * 3600 * 1_000_000
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


class Reader:
    """A reader whose rows and failures are given."""

    codec = CODEC

    def __init__(self, *users: int) -> None:
        self.values = self
        self.rows = {self.key(user): row_of(user) for user in users}
        self.failure: Exception | None = None

    def key(self, entity: int) -> str:
        return f"three:{entity}"

    async def get_many(self, keys: list[str]) -> list[bytes | None]:
        if self.failure is not None:
            raise self.failure
        return [self.rows.get(key) for key in keys]


def row_of(user: int) -> bytes:
    """The row of a user: its features are the number of the user, its day too."""
    time = np.array([user * DAY_US], dtype="datetime64[us]")
    [packed] = CODEC.encode(np.full((1, 3), user, "f4"), np.array([user]), time, time)
    return packed


def source_of(reader, ttl=None, remembered=2):
    return StoredFeatureSource(reader, "user_id", NOTHING, ttl, remembered)


def is_nothing(features) -> bool:
    return features.packed == NOTHING.tobytes()


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
    assert (is_nothing(stale), stale.flags) == (True, Flags.FEATURES_STALE)
    assert stale.event_time_us == DAY_US


async def test_features_of_another_definition_are_taken_as_missing_and_flagged():
    reader = Reader(1)
    reader.rows[reader.key(1)] = b"otherdef" + row_of(1)[8:]
    features = await source_of(reader).read(1, now_us=0)

    assert (is_nothing(features), features.flags) == (True, Flags.FEATURES_OUTDATED)


async def test_the_features_of_somebody_else_are_never_taken():
    reader = Reader(1)
    reader.rows[reader.key(1)] = row_of(2)
    features = await source_of(reader).read(1, now_us=0)

    assert (is_nothing(features), features.flags) == (True, Flags.FEATURES_OUTDATED)


async def test_without_the_store_the_last_features_are_used_and_others_are_missing():
    reader = Reader(1)
    source = source_of(reader)
    await source.read(1, now_us=0)
    reader.failure = StoreUnavailable("gone")

    cached, missing = await source.read(1, now_us=0), await source.read(2, now_us=0)

    assert (cached.vector.tolist(), cached.flags) == ([1, 1, 1], Flags.FEATURES_CACHED)
    assert (is_nothing(missing), missing.flags) == (True, Flags.FEATURES_UNAVAILABLE)


async def test_remembered_features_grow_stale_too():
    reader = Reader(1)
    source = source_of(reader, ttl=timedelta(days=10))
    await source.read(1, now_us=0)
    reader.failure = StoreUnavailable("gone")

    features = await source.read(1, now_us=20 * DAY_US)
    assert features.flags == Flags.FEATURES_CACHED | Flags.FEATURES_STALE
    assert is_nothing(features)


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
    del reader.rows[reader.key(1)]
    with pytest.raises(UnknownEntity):
        await source.read(1, now_us=0)
    reader.failure = StoreUnavailable("gone")

    assert (await source.read(1, now_us=0)).flags == Flags.FEATURES_UNAVAILABLE
