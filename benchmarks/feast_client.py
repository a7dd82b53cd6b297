"""The stock Feast client over our stores against the same client over Feast's own Redis store.

One call is `FeatureStore.get_online_features(...).to_dict()` of the 47 features, for one user and
for a hundred; over HTTP it is a request to ``feast serve`` on a connection that stays open. Only
``feature_store.yaml`` differs, and the file that lets ``feast serve`` take the short way.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from feast import FeatureStore, RepoConfig

from benchmarks.harness.report import Report, each, interleaved, is_quick
from benchmarks.harness.stage import filled_stores, servers
from benchmarks.harness.stock_feast import REFERENCES, plug_in, stock
from benchmarks.online_read import USERS, write_to
from configs.settings import ROOT, Settings
from infrastructure.servers.ports import take_any

SIZES = (1, 100)
PATIENCE_S = 120
HOOK = ROOT / "feature_store" / "feast_repo" / "static_artifacts.py"
HEAD = (
    b"POST /get-online-features HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)

Read = Callable[[], object]


def batches(size: int) -> Callable[[], list[int]]:
    """Give users, so many at a time, other ones each time."""
    cycle = itertools.cycle(range(1, USERS + 1))
    return lambda: list(itertools.islice(cycle, size))


def in_process(store: FeatureStore, size: int) -> Read:
    """Read some users as a client does."""
    users = batches(size)
    return lambda: store.get_online_features(
        REFERENCES, [{"user_id": user} for user in users()]
    ).to_dict()


def over_http(connection: socket.socket, size: int) -> Read:
    """Ask ``feast serve`` for some users, and read the answer whole.

    Requests are made beforehand and answers are not parsed: what is measured is the server.
    """
    users = batches(size)
    bodies = [
        json.dumps({"features": REFERENCES, "entities": {"user_id": users()}}).encode()
        for _ in range(min(USERS // size, 200))
    ]
    cycle = itertools.cycle([HEAD % len(body) + body for body in bodies])

    def read() -> object:
        connection.sendall(next(cycle))
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += _some(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), received
        length = int(LENGTH.search(head)[1])  # type: ignore[index]
        while len(body) < length:
            body += _some(connection)
        return body

    return read


def _some(connection: socket.socket) -> bytes:
    received = connection.recv(2**18)
    if not received:
        raise ConnectionError("feast serve closed the connection")
    return received


@contextmanager
def served(store: FeatureStore, folder: Path, hooks: Sequence[Path]) -> Iterator[socket.socket]:
    """A connection to ``feast serve`` over a store, with one worker and no log of accesses."""
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(_settings(store.config)))
    for hook in hooks:
        shutil.copy(hook, folder)
    taken = take_any(listening=False)
    command = [
        *(str(Path(sys.executable).with_name("feast")), "serve", "--no-access-log"),
        *("--host", "127.0.0.1", "--port", str(taken.number)),
        *("--max-requests", "0", "--keep-alive-timeout", "600"),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield _connected(process, taken.number)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        taken.close()


def _settings(config: RepoConfig) -> dict[str, Any]:
    """What ``feature_store.yaml`` says; `RepoConfig.write_to_path` writes names it cannot read."""
    parts = ("registry", "offline_store", "online_store", "batch_engine")
    stores = {part: getattr(config, f"{part.removesuffix('_store')}_config") for part in parts}
    return {
        **{part: given for part, given in stores.items() if given},
        **{"project": config.project, "provider": "local"},
        "entity_key_serialization_version": config.entity_key_serialization_version,
    }


def _connected(process: subprocess.Popen[Any], port: int) -> socket.socket:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=60)
            over_http(connection, 1)()
        except OSError:
            time.sleep(0.2)
        else:
            return connection
    raise SystemExit("feast serve did not start.")


def clients(settings: Settings, folder: Path) -> dict[str, FeatureStore]:
    """Feast over its own stores and over ours, with the same rows."""
    matrix = filled_stores(settings)
    stores = {"feast": stock(settings, folder), "feast_over_our_store": plug_in(settings)}
    write_to(stores["feast"], matrix)
    answers = [
        store.get_online_features(REFERENCES, [{"user_id": 5}, {"user_id": 6}]).to_dict()
        for store in stores.values()
    ]
    assert answers[0] == answers[1]
    return stores


def main() -> int:
    """Measure the median of one call, store after store in each round."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    report = Report("feast_client", packages=["feast", "hiredis", "redis"])
    rounds, repeats = (2, 50) if is_quick() else (9, 300)
    with servers() as settings, tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        stores = clients(settings, Path(name))
        hooks = {"feast": [], "feast_over_our_store": [HOOK]}
        connections = {
            subject: stack.enter_context(served(store, Path(name) / subject, hooks[subject]))
            for subject, store in stores.items()
        }
        for size in SIZES:
            times = max(repeats // size**0.5, 10)
            reads = {subject: in_process(store, size) for subject, store in stores.items()}
            asked = {subject: over_http(each_, size) for subject, each_ in connections.items()}
            for metric, work in (("read", reads), ("served", asked)):
                timed = {subject: each(read, int(times)) for subject, read in work.items()}
                report.add(f"{metric}_{size}_p50", "us", interleaved(timed, rounds))
    for metric, size in itertools.product(("read", "served"), SIZES):
        ratio = f"{metric}_{size}_p50"
        report.ratio("feast", "feast_over_our_store", ratio)
        report.target(f"feast_over_feast_over_our_store_{ratio}", ">=", 3.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
