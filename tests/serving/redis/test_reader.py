import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import numpy as np
import pytest
from redis import Redis

from configs.settings import load_settings
from feature_store.connect import online_store
from feature_store.errors import SchemaMismatch, StoreUnavailable
from feature_store.feature_definitions import MODEL_VIEW
from infrastructure import embedded
from infrastructure.servers import services
from serving.redis.protocol import RedisAddress, RedisConnection
from serving.redis.reader import OnlineReader, RowReader
from tests.worlds.rows import random_matrix
from tests.worlds.serving import now

DEADLINE_S = 0.05
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def redis_alone(tmp_path_factory):
    """Settings with a Redis that a test may stop, and 300 users in it."""
    own = load_settings(var_dir=tmp_path_factory.mktemp("redis"))
    online_store(own).write(random_matrix(), now())
    yield own
    embedded.delete(own)


@dataclass(frozen=True)
class Users:
    """Rows of users, with the connection that reads them."""

    values: OnlineReader
    rows: RowReader

    async def read(self, user):
        return await self.rows.read(user)

    @property
    def is_connected(self):
        return self.values.is_connected


@asynccontextmanager
async def reader_of(settings, deadline_s=DEADLINE_S):
    reader = OnlineReader(
        lambda: RedisAddress.parse(embedded.redis_url(settings)),
        settings.feature.project,
        deadline_s,
    )
    await reader.start()
    try:
        yield Users(reader, reader.rows(MODEL_VIEW.schema))
    finally:
        await reader.stop()


async def until_connected(reader) -> float:
    started = time.monotonic()
    while not reader.is_connected:
        await asyncio.sleep(0.01)
        assert time.monotonic() - started < 10
    return time.monotonic() - started


def pid_of(settings) -> int:
    [status] = [each for each in services.status(settings) if each.name == "valkey"]
    assert status.pid
    return status.pid


async def test_many_reads_of_one_turn_give_each_its_own_row(redis_alone):
    matrix = random_matrix()
    async with reader_of(redis_alone) as reader:
        rows = await asyncio.gather(*[reader.read(user) for user in range(1, 301)])

    assert [row.key for row in rows] == list(range(1, 301))
    assert np.stack([row.vector for row in rows]).tobytes() == matrix.values.tobytes()


async def test_an_unknown_user_has_no_row(redis_alone):
    async with reader_of(redis_alone) as reader:
        assert await reader.read(999_999) is None


async def test_a_row_of_another_schema_is_refused(redis_alone):
    client = Redis.from_url(embedded.redis_url(redis_alone))
    client.set(online_store(redis_alone).key(1000), b"x" * 220)
    async with reader_of(redis_alone) as reader:
        with pytest.raises(SchemaMismatch, match="was written for schema 7878787878787878"):
            await reader.read(1000)
    client.close()


async def test_a_stopped_redis_costs_one_deadline_and_then_nothing(redis_alone):
    pid = pid_of(redis_alone)
    async with reader_of(redis_alone) as reader:
        await reader.read(1)
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match="did not answer within 50 ms"):
                await reader.read(1)
            assert time.monotonic() - started < 0.2
            started = time.monotonic()
            for _ in range(100):
                with pytest.raises(StoreUnavailable, match="trying to connect again"):
                    await reader.read(1)
            assert time.monotonic() - started < 0.2
            await asyncio.sleep(0.5)
            assert not reader.is_connected
        finally:
            os.kill(pid, signal.SIGCONT)

        assert await until_connected(reader) < 2
        assert (await reader.read(2)).key == 2


async def test_replies_that_come_late_are_given_to_nobody(redis_alone):
    pid = pid_of(redis_alone)
    async with reader_of(redis_alone) as reader:
        for user in range(1, 20):
            os.kill(pid, signal.SIGSTOP)
            late = asyncio.gather(
                *[reader.read(user), reader.read(user + 1)], return_exceptions=True
            )
            await asyncio.sleep(DEADLINE_S * 0.9)
            os.kill(pid, signal.SIGCONT)
            rows = await late
            await until_connected(reader)
            rows += [await reader.read(user + 100)]
            asked = (user, user + 1, user + 100)
            for key, row in zip(asked, rows, strict=True):
                assert isinstance(row, StoreUnavailable) or row.key == key


async def test_a_redis_that_is_gone_is_found_again(redis_alone):
    async with reader_of(redis_alone) as reader:
        await reader.read(1)
        Redis.from_url(embedded.redis_url(redis_alone)).client_kill_filter(
            skipme=False, _type="normal"
        )
        await asyncio.sleep(0.05)
        assert await until_connected(reader) < 2
        assert (await reader.read(1)).key == 1


async def test_a_cancelled_request_disturbs_no_other(redis_alone):
    async with reader_of(redis_alone) as reader:
        tasks = [asyncio.create_task(reader.read(user)) for user in range(1, 11)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        rows = await asyncio.gather(*tasks, return_exceptions=True)

    assert [getattr(row, "key", None) for row in rows] == [1, 2, 3, None, 5, 6, 7, 8, 9, 10]


async def test_a_loop_that_was_late_itself_reads_what_lies_there(redis_alone):
    async with reader_of(redis_alone) as reader:
        reading = asyncio.create_task(reader.read(5))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(3 * DEADLINE_S)  # the loop does nothing; the reply arrives meanwhile

        assert (await reading).key == 5


async def test_a_server_that_speaks_no_redis_is_unavailable():
    async def answer(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with suppress(ConnectionError):
            await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(StoreUnavailable, match="Redis sent what is no reply"):
        await RedisConnection.open(RedisAddress.parse(f"redis://127.0.0.1:{port}"), DEADLINE_S)
    server.close()


async def test_a_refused_password_is_said(redis_alone):
    url = embedded.redis_url(redis_alone)
    address = RedisAddress.parse(url.rpartition("@")[2])
    wrong = RedisAddress.parse(f"redis://:wrong@{url.rpartition('@')[2].removeprefix('redis://')}")
    assert address.password is None

    with pytest.raises(StoreUnavailable, match="Redis refused: "):
        await RedisConnection.open(wrong, DEADLINE_S)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", ("cache", 6379, None, None, None, 0, False)),
        ("redis://:p%40ss@cache:1/3", ("cache", 1, None, None, "p@ss", 3, False)),
        ("rediss://me:pw@cache/", ("cache", 6379, None, "me", "pw", 0, True)),
        ("unix:///run/redis.sock", ("127.0.0.1", 6379, "/run/redis.sock", None, None, 0, False)),
    ],
)
def test_urls_are_read(url, expected):
    address = RedisAddress.parse(url)

    found = address.host, address.port, address.path, address.username, address.password
    assert (*found, address.database, address.is_encrypted) == expected
