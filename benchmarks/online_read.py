"""Reading the 47 features of one user online: ours in process, and through Feast's client.

``ping`` and ``get`` are the limit: one round trip of the Redis client, without and with the row's
bytes. ``ours`` is the vector that the model takes; ``ours_decoded`` the same as words and numbers,
which is what Feast's client gives too, over its own Redis store (``feast``) and over ours
(``feast_over_our_store``).
"""

from __future__ import annotations

import itertools
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from feast import FeatureStore
from feast.utils import _utc_now as now

from benchmarks.harness.report import Report, each, interleaved, is_quick
from benchmarks.harness.stage import filled_stores, servers
from benchmarks.harness.stock_feast import REFERENCES, plug_in, stock
from configs.settings import Settings
from feature_store.connect import online_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW

USERS = 2_000


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


def main() -> int:
    """Measure the median of one read, subject after subject in each round."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    report = Report("online_read", packages=["feast", "hiredis", "numpy", "redis"])
    rounds, repeats = (2, 200) if is_quick() else (9, 1_000)
    with servers() as settings, tempfile.TemporaryDirectory() as folder:
        reads = subjects(settings, Path(folder))
        timed = {name: each(read, repeats) for name, read in reads.items()}
        report.add("read_p50", "us", interleaved(timed, rounds))
    report.ratio("ours", "get", "read_p50")
    report.ratio("feast", "ours", "read_p50")
    report.ratio("feast", "ours_decoded", "read_p50")
    report.ratio("feast", "feast_over_our_store", "read_p50")
    report.target("feast_over_ours_read_p50", ">=", 4.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
