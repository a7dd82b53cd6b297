"""Histories of any length in schemas of their own, and reads of them for `historical_retrieval`.

As a program it makes one read in a process of its own, and prints its time and memory as JSON:
``python -m benchmarks.subjects.history SUBJECT DATABASE_URL FEATURE_ROWS ASKED_ROWS``.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from feast import FeatureStore
from numpy.typing import NDArray

from benchmarks.harness.memory import MIB, measured
from benchmarks.harness.stage import real_rows
from benchmarks.harness.stock_feast import REFERENCES, UNINDEXED, plug_in
from configs.settings import Settings, load_settings
from feature_store.connect import offline_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline import tables
from feature_store.offline.binary_copy import copy_blocks
from feature_store.offline.postgres import Postgres
from infrastructure.migrations import migrate

EVENTS_OF_AN_ENTITY = 10
BLOCK_ROWS = 20_000
START, DAY = np.datetime64("2020-01-01", "us"), 86_400_000_000


def blocks(settings: Settings, rows: int) -> Iterator[FeatureMatrix]:
    """Rows of entities that have ten events each, as time would bring them: the oldest first."""
    real, random = real_rows(settings)[0], np.random.default_rng(rows)
    entities = rows // EVENTS_OF_AN_ENTITY
    for event in range(EVENTS_OF_AN_ENTITY):
        order = random.permutation(entities)
        for start in range(0, entities, BLOCK_ROWS):
            keys = order[start : start + BLOCK_ROWS] + 1
            offsets = event * 10 * DAY + random.integers(0, 10 * DAY, len(keys))
            values = real.values[random.integers(0, len(real), len(keys))]
            yield FeatureMatrix(values, keys, START + offsets.astype("m8[us]"), real.schema)


def asked(rows: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.datetime64]]:
    """Keys and times of ``n`` entity rows for a history of so many rows, in no order."""
    random = np.random.default_rng(n)
    keys = random.integers(1, rows // EVENTS_OF_AN_ENTITY + 1, n)
    return keys, START + random.integers(0, 110 * DAY, n).astype("m8[us]")


def make_history(settings: Settings, rows: int) -> str:
    """Store a history in a schema of its own; return the URL that leads to it."""
    name = f"history_{rows}"
    with offline_store(settings).postgres.transaction() as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    url = f"{settings.database_url}?options=-csearch_path%3D{name}"
    migrate(url)
    store = offline_store(load_settings(database_url=url))
    store.versions.register(MODEL_VIEW.schema, MODEL_VIEW.entity)
    _copy(store.postgres, blocks(settings, rows))
    with store.postgres.transaction() as connection:
        connection.execute(f"CREATE TABLE readable_rows AS SELECT * FROM {MODEL_VIEW.name}")
        connection.execute("ANALYZE")
    return url


def subjects(url: str) -> dict[str, Callable[..., int]]:
    """Reads of a history by name; each takes keys and times and gives the size of its result."""
    settings = load_settings(database_url=url)

    def ours(keys: NDArray[np.int64], times: NDArray[np.datetime64]) -> int:
        store, view = offline_store(settings), MODEL_VIEW
        matrix, found = store.historical(view.schema, view.entity, keys, times)
        return matrix.values.nbytes + found.nbytes

    def feast(store: FeatureStore, references: Sequence[str]) -> Callable[..., int]:
        def read(keys: NDArray[np.int64], times: NDArray[np.datetime64]) -> int:
            rows = pd.DataFrame({MODEL_VIEW.entity: keys, "event_timestamp": times})
            table = store.get_historical_features(rows, list(references)).to_arrow()
            return int(table.nbytes)

        return read

    return {
        "ours": ours,
        "feast_over_our_store": feast(plug_in(settings), REFERENCES),
        "feast_over_our_store_without_index": feast(plug_in(settings, unindexed=True), UNINDEXED),
    }


def main() -> int:
    """Make one read, after a small one that does not count; print its figures."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    name, url, rows, n = sys.argv[1:]
    read = subjects(url)[name]
    read(*asked(int(rows), 10))
    entity_rows = asked(int(rows), int(n))
    result_bytes, figures = measured(lambda: read(*entity_rows))
    print(json.dumps({**figures, "above_result": figures["peak"] - result_bytes / MIB}))
    return 0


def _copy(postgres: Postgres, rows: Iterator[FeatureMatrix]) -> None:
    """Write new rows; without a look at what is stored, which is another benchmark's matter."""
    columns = (tables.copy_columns(block, MODEL_VIEW.entity, block.times) for block in rows)
    first = next(columns)
    names = ", ".join(column.name for column in first)
    command = f"COPY {tables.table_name(MODEL_VIEW.schema)} ({names}) FROM STDIN (FORMAT BINARY)"
    with (
        postgres.transaction() as connection,
        connection.cursor() as cursor,
        cursor.copy(command) as copy,
    ):
        for chunk in copy_blocks(itertools.chain([first], columns)):
            copy.write(chunk)


if __name__ == "__main__":
    sys.exit(main())
