"""A Redis that is slow, stopped, killed or full costs a reader one deadline, and no row a byte."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from configs.settings import load_settings
from feature_store import connect
from feature_store.definitions.engine import FeatureMatrix, created_times
from feature_store.errors import StoreUnavailable
from feature_store.online_store import OnlineStore
from tests.faults.servers import Servers, leave_room_for
from tests.worlds import faulty_servers
from tests.worlds.rows import MONDAY

DEADLINE_MS = 50
SLACK_S = 0.9
"""What a busy machine may add; without a deadline these reads would take over 4 s, or for ever."""


@pytest.fixture
def online(servers: Servers) -> Iterator[OnlineStore]:
    """An empty store with the deadline of reads, on a server that runs."""
    servers.start()
    store = servers.online(DEADLINE_MS)
    store.client.config_set("maxmemory", 0)
    store.client.flushdb()
    yield store
    with suppress(AssertionError):
        servers.signal("valkey", signal.SIGCONT)
    servers.start()


def packed(store: OnlineStore, matrix: FeatureMatrix) -> list[bytes]:
    """The bytes that belong under the keys of the matrix."""
    created = created_times(MONDAY, len(matrix))
    return store.codec.encode(matrix.values, matrix.keys, matrix.times, created)


def stored(store: OnlineStore, matrix: FeatureMatrix) -> list[bytes | None]:
    found: list[bytes | None] = []
    for start in range(0, len(matrix), 1000):
        keys = [store.key(entity) for entity in matrix.keys[start : start + 1000].tolist()]
        found += store.client.mget(keys)
    return found


def earlier(matrix: FeatureMatrix) -> FeatureMatrix:
    """Other rows of the same users, a day before."""
    values = matrix.values + np.float32(1)
    return FeatureMatrix(values, matrix.keys, matrix.times - np.timedelta64(1, "D"), matrix.schema)


def fails_in_time(read: Callable[[], object]) -> StoreUnavailable:
    """Call what must fail, within the deadline and a slack."""
    start = time.perf_counter()
    with pytest.raises(StoreUnavailable) as raised:
        read()
    assert time.perf_counter() - start < DEADLINE_MS / 1000 + SLACK_S
    return raised.value


def how_long(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextmanager
def in_background(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Work in a thread while the block runs; the list holds how it failed."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except StoreUnavailable as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield failures
    thread.join()


@pytest.mark.parametrize("kind", ["silent", "dribbling", "full"])
def test_no_read_takes_longer_than_its_deadline(kind: str) -> None:
    with getattr(faulty_servers, kind)() as url:
        store = connect.online_store(load_settings(redis_url=url), DEADLINE_MS)
        for read in (lambda: store.read(1), lambda: store.read_many([1, 2]), lambda: store.read(1)):
            error = fails_in_time(read)
            assert "Redis did not read: Timeout" in str(error)
            assert "Does it run (`make status`)?" in str(error)
        assert min(how_long(lambda: fails_in_time(lambda: store.read(1))) for _ in range(5)) < 0.1


def test_a_reply_that_dribbles_is_cut_off_in_its_middle() -> None:
    with faulty_servers.dribbling(greets=True) as url:
        store = connect.online_store(load_settings(redis_url=url), DEADLINE_MS)
        fails_in_time(lambda: store.read(1))
        assert store.versions._is_ready  # the first reply came in time, the second did not


def test_readers_of_a_server_that_stops_and_goes_on_get_errors_in_time_and_no_wrong_row(
    servers: Servers, online: OnlineStore, matrix: FeatureMatrix
) -> None:
    few = matrix.rows(np.arange(500))
    online.write(few, MONDAY)
    until = time.monotonic() + 2.5
    slowest, failed, right = [], [], []

    def read(seed: int) -> None:
        random = np.random.default_rng(seed)
        while time.monotonic() < until:
            place = int(random.integers(500))
            start = time.perf_counter()
            try:
                row = online.read(place + 1)
            except StoreUnavailable:
                failed.append(place)
            else:
                right.append(row.vector.tobytes() == few.values[place].tobytes())
            slowest.append(time.perf_counter() - start)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until - 0.4:
        servers.signal("valkey", signal.SIGSTOP)
        time.sleep(0.2)
        servers.signal("valkey", signal.SIGCONT)
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    assert failed
    assert len(right) > len(threads)
    assert all(right)
    assert max(slowest) < DEADLINE_MS / 1000 + SLACK_S
    assert online.read(7).key == 7


def test_a_late_connection_is_closed_and_never_used_again(
    servers: Servers, online: OnlineStore, matrix: FeatureMatrix
) -> None:
    online.write(matrix.rows(np.arange(10)), MONDAY)
    [before] = online.client.connection_pool._available_connections
    socket_before = before._sock
    servers.signal("valkey", signal.SIGSTOP)
    fails_in_time(lambda: online.read(1))
    assert socket_before.fileno() == -1
    servers.signal("valkey", signal.SIGCONT)
    assert [online.read(key).key for key in (2, 3, 4)] == [2, 3, 4]


def test_reads_go_on_at_once_after_a_server_was_killed_and_started_again(
    servers: Servers, online: OnlineStore, matrix: FeatureMatrix
) -> None:
    few = matrix.rows(np.arange(500))
    online.write(few, MONDAY)
    servers.kill("valkey")
    error = fails_in_time(lambda: online.read(1))
    assert "Redis did not read: " in str(error)
    assert "Connection refused" in str(fails_in_time(lambda: online.read(1)))
    servers.start()
    assert online.read(1).vector.tobytes() == few.values[0].tobytes()
    assert stored(online, few) == packed(online, few)


def test_a_write_to_a_stopped_server_fails_in_time_and_can_be_repeated(
    servers: Servers, online: OnlineStore, matrix: FeatureMatrix
) -> None:
    old, new = earlier(matrix), matrix
    writer = servers.online(deadline_ms=300)
    writer.write(old, MONDAY)
    writer.write_batch_rows = 5  # there is time to interrupt it
    with in_background(lambda: writer.write(new, MONDAY)) as failures:
        while online.client.get(online.key(1)) == packed(online, old.rows(np.arange(1)))[0]:
            time.sleep(0.001)
        servers.signal("valkey", signal.SIGSTOP)
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 0.3 + 2 * SLACK_S
    servers.signal("valkey", signal.SIGCONT)
    assert [str(error).startswith("Redis did not write: Timeout") for error in failures] == [True]
    whole = set(packed(online, old)) | set(packed(online, new))
    assert set(stored(online, matrix)) <= whole
    writer.write(new, MONDAY)
    assert stored(online, matrix) == packed(online, new)


def test_a_write_to_a_server_that_is_killed_leaves_whole_rows_and_can_be_repeated(
    servers: Servers, online: OnlineStore, matrix: FeatureMatrix
) -> None:
    old, new = earlier(matrix), matrix
    writer = servers.online(deadline_ms=5000)
    writer.write(old, MONDAY)
    writer.write_batch_rows = 5
    with in_background(lambda: writer.write(new, MONDAY)) as failures:
        while online.client.get(online.key(1)) == packed(online, old.rows(np.arange(1)))[0]:
            time.sleep(0.001)
        servers.kill("valkey")
    assert ["Redis did not write: " in str(error) for error in failures] == [True]
    servers.start()
    found = stored(online, matrix)
    assert set(found) <= set(packed(online, old)) | set(packed(online, new))
    assert found[-1] == packed(online, old)[-1]  # it was killed before the end
    writer.write(new, MONDAY)
    assert stored(online, matrix) == packed(online, new)


def test_a_full_server_says_so_keeps_its_rows_and_takes_the_rest_once_it_is_larger(
    online: OnlineStore, matrix: FeatureMatrix
) -> None:
    client = online.client
    first = matrix.rows(np.arange(1000))
    online.write(first, MONDAY)
    leave_room_for(client, 1_000_000)
    try:
        with pytest.raises(StoreUnavailable, match="it is full") as raised:
            online.write(matrix, MONDAY)
        assert "Raise its `maxmemory`" in str(raised.value)
        assert stored(online, first) == packed(online, first)
        assert online.read(1).key == 1
        rows = zip(stored(online, matrix), packed(online, matrix), strict=True)
        assert {row for row, right in rows if row != right} == {None}
    finally:
        client.config_set("maxmemory", 0)
    online.write(matrix, MONDAY)
    assert stored(online, matrix) == packed(online, matrix)
