"""Reading the 47 features of one user online: ours in process, and through Feast's client.

``ping`` and ``get`` are the limit: one round trip of the Redis client, without and with the row's
bytes. ``ours`` is the vector that the model takes; ``ours_decoded`` the same as words and numbers,
which is what Feast's client gives too, over its own Redis store (``feast``) and over ours
(``feast_over_our_store``).

On an event loop the client of the API (``reader``) and redis-py's (``redis_py``) get the same
bytes, each read within a deadline: one read, and sixteen that wait at once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pandas as pd
from feast import FeatureStore
from feast.utils import _utc_now as now

from benchmarks.harness.report import Report, each, interleaved, is_quick
from benchmarks.harness.stage import filled_stores, servers
from benchmarks.harness.stock_feast import REFERENCES, plug_in, stock
from configs.settings import Settings
from feature_store.connect import async_redis_client, online_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from infrastructure.embedded import redis_url
from serving.redis.protocol import RedisAddress
from serving.redis.reader import OnlineReader

USERS = 2_000
DEADLINE_S = 0.5


def write_to(store: FeatureStore, matrix: FeatureMatrix) -> None:
    """Write the first users into a Feast store by its own means."""
    rows = [MODEL_VIEW.schema.decode(vector) for vector in matrix.values[:USERS]]
    frame = pd.DataFrame(rows).assign(
        user_id=matrix.keys[:USERS], event_timestamp=now(), created_timestamp=now()
    )
    store.write_to_online_store(MODEL_VIEW.name, frame)


def feast_read(store: FeatureStore, users: Callable[[], int]) -> Callable[[], object]:
    """Read one user as a client does."""
    return lambda: store.get_online_features(REFERENCES, [{"user_id": users()}]).to_dict()


def subjects(settings: Settings, folder: Path) -> dict[str, Callable[[], object]]:
    """What is measured, each a read of the next user."""
    matrix, ours = filled_stores(settings), online_store(settings)
    theirs, both = stock(settings, folder), plug_in(settings)
    write_to(theirs, matrix)
    cycle = itertools.cycle(range(1, USERS + 1))

    def users() -> int:
        return next(cycle)

    decode = MODEL_VIEW.schema.decode
    assert feast_read(theirs, lambda: 5)() == feast_read(both, lambda: 5)()
    return {
        "ping": ours.client.ping,
        "get": lambda: ours.client.get(ours.key(users())),
        "ours": lambda: ours.read(users()),
        "ours_decoded": lambda: decode(ours.read(users()).vector),
        "feast": feast_read(theirs, users),
        "feast_over_our_store": feast_read(both, users),
    }


def timed_on_loop(
    settings: Settings, at_once: int, rounds: int, repeats: int
) -> dict[str, list[float]]:
    """Microseconds until ``at_once`` reads have ended, the clients in turn in each round."""
    key = online_store(settings).key
    cycle = itertools.cycle(key(user) for user in range(1, USERS + 1))

    async def measure() -> dict[str, list[float]]:
        client = async_redis_client(settings, DEADLINE_S * 1000)
        address = RedisAddress.parse(redis_url(settings))
        reader = OnlineReader(lambda: address, settings.feature.project, DEADLINE_S)
        await reader.start()

        async def redis_py() -> object:
            async with asyncio.timeout(DEADLINE_S):
                return await client.mget([next(cycle)])

        def ours() -> Awaitable[object]:
            return reader.get_many([next(cycle)])

        clients: dict[str, Callable[[], Awaitable[object]]] = {"reader": ours, "redis_py": redis_py}
        runs: dict[str, list[float]] = {name: [] for name in clients}
        for turn in range(rounds + 1):
            for name, read in clients.items():
                start = time.perf_counter()
                for _ in range(repeats):
                    await asyncio.gather(*(read() for _ in range(at_once)))
                if turn:  # the first round opens connections
                    runs[name].append((time.perf_counter() - start) / repeats * 1e6)
        await reader.stop()
        await client.aclose()
        return runs

    return asyncio.run(measure())


def main() -> int:
    """Measure the median of one read, subject after subject in each round."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    report = Report("online_read", packages=["feast", "hiredis", "numpy", "redis"])
    rounds, repeats = (2, 200) if is_quick() else (9, 1_000)
    with servers() as settings, tempfile.TemporaryDirectory() as folder:
        reads = subjects(settings, Path(folder))
        timed = {name: each(read, repeats) for name, read in reads.items()}
        report.add("read_p50", "us", interleaved(timed, rounds))
        for at_once, metric in ((1, "async_read"), (16, "sixteen_async_reads")):
            report.add(metric, "us", timed_on_loop(settings, at_once, rounds, repeats // 4))
    report.ratio("ours", "get", "read_p50")
    report.ratio("feast", "ours", "read_p50")
    report.ratio("feast", "ours_decoded", "read_p50")
    report.ratio("feast", "feast_over_our_store", "read_p50")
    for metric in ("async_read", "sixteen_async_reads"):
        report.ratio("redis_py", "reader", metric)
    report.target("feast_over_ours_read_p50", ">=", 4.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
