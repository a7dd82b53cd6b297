"""The online store: packed rows, newest event wins, truth about what is not there."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from redis import Redis

from feature_store.definitions.engine import FeatureMatrix
from feature_store.errors import EntityNotFound, SchemaMismatch, StoreUnavailable
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.online.conditional_write import Batch, write_newest
from feature_store.online.row_codec import HEADER_BYTES, RowCodec
from feature_store.online_store import OnlineStore
from tests.worlds.rows import MONDAY
from tests.worlds.strategies import bits


def later(matrix: FeatureMatrix, **shift: int) -> FeatureMatrix:
    moved = matrix.times + np.timedelta64(timedelta(**shift))
    return FeatureMatrix(matrix.values + np.float32(1), matrix.keys, moved, matrix.schema)


def test_what_is_written_is_read_back_to_the_bit(
    online: OnlineStore, matrix: FeatureMatrix
) -> None:
    assert online.write(matrix, MONDAY) == 300
    rows = online.read_many(matrix.keys.tolist())
    for row, values, time in zip(rows, matrix.values, matrix.times, strict=True):
        assert row is not None
        assert np.array_equal(bits(row.vector), bits(values))
        assert row.event_time_us == time.astype(np.int64)
        assert row.created_time_us == MONDAY.timestamp() * 1_000_000
    assert online.count() == 300


def test_a_row_is_one_value_of_220_bytes(
    online: OnlineStore, matrix: FeatureMatrix, redis: Redis
) -> None:
    online.write(matrix, MONDAY)
    assert redis.strlen(online.key(1)) == HEADER_BYTES + 47 * 4 == 220


def test_the_newest_event_wins_in_any_order(online: OnlineStore, matrix: FeatureMatrix) -> None:
    newer = later(matrix, days=1)
    assert online.write(newer, MONDAY) == 300
    assert online.write(matrix, MONDAY + timedelta(days=9)) == 0
    assert np.array_equal(bits(online.read(7).vector), bits(newer.values[6]))


def test_of_one_event_the_row_created_last_wins(online: OnlineStore, matrix: FeatureMatrix) -> None:
    corrected = later(matrix, days=0)
    online.write(corrected, MONDAY + timedelta(seconds=1))
    assert online.write(matrix, MONDAY) == 0
    assert online.write(matrix, MONDAY + timedelta(seconds=2)) == 300
    assert np.array_equal(bits(online.read(7).vector), bits(matrix.values[6]))


def test_of_rows_of_one_entity_in_one_write_the_newest_wins(
    online: OnlineStore, matrix: FeatureMatrix
) -> None:
    newest, older = later(matrix, days=2), later(matrix, days=1)
    orders = [[matrix, newest, older], [newest, older, matrix], [older, matrix, newest]]
    for order, batch_rows in itertools.product(orders, [7, 900]):
        online.delete()
        online.write_batch_rows = batch_rows
        online.write(interleaved(order), MONDAY)
        rows = online.read_many(matrix.keys.tolist())
        assert [row.event_time_us for row in rows if row] == newest.times.astype(int).tolist()
        assert online.write(interleaved(order), MONDAY) == 0


def interleaved(matrices: list[FeatureMatrix]) -> FeatureMatrix:
    """The rows of all: one of each, then the next."""
    order = np.arange(3 * len(matrices[0])).reshape(3, -1).T.ravel()
    return FeatureMatrix(
        np.concatenate([m.values for m in matrices])[order],
        np.concatenate([m.keys for m in matrices])[order],
        np.concatenate([m.times for m in matrices])[order],
        matrices[0].schema,
    )


def test_a_write_that_fails_half_way_leaves_no_reply_for_the_next_caller(
    online: OnlineStore, matrix: FeatureMatrix
) -> None:
    packed = online.codec.encode(matrix.values, matrix.keys, matrix.times, matrix.times)

    def broken() -> Iterator[Batch]:
        yield [online.key(1).encode()], packed[:1]
        raise OSError("the source died")

    with pytest.raises(OSError, match="the source died"):
        write_newest(online.client, broken())
    assert online.client.echo("mine") == b"mine"
    assert online.read(1).key == 1


def test_writers_in_parallel_leave_the_newest_rows(
    online: OnlineStore, matrix: FeatureMatrix
) -> None:
    versions = [later(matrix, hours=hours) for hours in range(8)]
    threads = [threading.Thread(target=online.write, args=(v, MONDAY)) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = versions[-1].times.astype(np.int64).tolist()
    rows = online.read_many(matrix.keys.tolist())
    assert [row.event_time_us for row in rows if row] == newest


def test_an_unknown_entity_is_not_found(online: OnlineStore) -> None:
    with pytest.raises(EntityNotFound, match="No online features for user_features 999"):
        online.read(999)
    assert online.read_many([999, 1]) == [None, None]


def test_a_row_older_than_the_ttl_reads_as_absent(redis: Redis, matrix: FeatureMatrix) -> None:
    store = OnlineStore(redis, f"ttl{uuid.uuid4().hex}", MODEL_VIEW.schema, timedelta(days=2))
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")
    ages = np.where(matrix.keys % 2 == 0, np.timedelta64(3, "D"), np.timedelta64(1, "D"))
    store.write(replace(matrix, times=now - ages), MONDAY)
    assert store.read(1).key == 1
    with pytest.raises(EntityNotFound):
        store.read(2)


def test_a_row_of_another_schema_is_refused(online: OnlineStore, matrix: FeatureMatrix) -> None:
    online.write(matrix, MONDAY)
    smaller = MODEL_VIEW.schema.select(["age", "sex"])
    reader = OnlineStore(online.client, online.prefix.split(":")[0], smaller)
    with pytest.raises(SchemaMismatch, match="Run the feature pipeline again"):
        reader.read(1)


def test_a_row_of_another_schema_is_replaced(online: OnlineStore, matrix: FeatureMatrix) -> None:
    smaller = MODEL_VIEW.schema.select(["age", "sex"])
    old = FeatureMatrix(matrix.values[:, :2], matrix.keys, later(matrix, days=9).times, smaller)
    writer = OnlineStore(online.client, online.prefix.split(":")[0], smaller)
    writer.write(old, MONDAY)
    assert online.write(matrix, MONDAY) == 300
    assert np.array_equal(bits(online.read(1).vector), bits(matrix.values[0]))


def test_a_reply_meant_for_another_entity_is_noticed(matrix: FeatureMatrix) -> None:
    codec = RowCodec(MODEL_VIEW.schema)
    packed = codec.encode(matrix.values[:1], matrix.keys[:1], matrix.times[:1], matrix.times[0])
    with pytest.raises(SchemaMismatch, match=r"Asked for user_features 2, .* the row of 1"):
        codec.decode(2, packed[0])


def test_a_server_that_does_not_answer_is_one_clear_error_within_the_deadline() -> None:
    client = Redis(port=1, socket_timeout=0.05, socket_connect_timeout=0.05, retry=None)
    with pytest.raises(StoreUnavailable, match=r"Redis did not read: .* \(`make status`\)"):
        OnlineStore(client, "p", MODEL_VIEW.schema).read(1)
