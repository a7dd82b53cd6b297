"""What a key costs that is a text, or a text and a number, against one that is a whole number.

The same 48,842 rows of 47 features under each kind of key: the feature pipeline from a file into
both stores (``ingest``, first run of an empty view), one online read and one of a hundred users by
their keys (``one_read``, ``hundred_reads``), and a point-in-time read of every row by its key
(``history``). Ratios are to whole numbers, pair by pair of runs.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness.report import Report, each, interleaved, is_quick, seconds
from benchmarks.harness.stage import servers
from configs.command_line import Stopwatch
from configs.settings import Settings
from configs.sources import FileReading, SourceFile
from feature_store import versions
from feature_store.connect import offline_store, online_store, raw_source
from feature_store.definitions.entity import Entity, KeyValue
from feature_store.definitions.view import FeatureView
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.compute import compute
from feature_store.ingest.materialize import materialize
from feature_store.ingest.staging import Staging
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.sources.files import FileSource
from infrastructure.embedded import as_owner, postgres_url
from infrastructure.migrations import migrate

ENTITIES = {
    "whole": Entity("user_id"),
    "text": Entity("tail_number", key="string"),
    "composite": Entity("seat", key={"plane": "string", "row_number": "integer"}),
}
HUNDRED = 100


@dataclass(frozen=True)
class KeyedFile:
    """The rows of a file under one kind of key."""

    entity: Entity
    path: Path
    keys: Sequence[KeyValue]

    def view(self) -> FeatureView:
        """The model's view, about this entity, under a name that no other has."""
        name = f"rows_{uuid.uuid4().hex[:8]}"
        view = FeatureView(name, self.entity, missing=MODEL_VIEW.missing_marks)
        view.definitions, view.fills = dict(MODEL_VIEW.definitions), dict(MODEL_VIEW.fills)
        return view


@dataclass(frozen=True)
class Filled:
    """A view whose rows are in both stores."""

    view: FeatureView
    offline: OfflineStore
    online: OnlineStore
    keys: Sequence[KeyValue]

    def read(self, keys: Sequence[KeyValue]) -> object:
        """Read users online by their keys."""
        entity = self.view.key
        return self.online.read_many(entity.identities(entity.texts_of(keys)).tolist())

    def history(self) -> object:
        """Read every row as of now, by its key."""
        entity = self.view.key
        identities = entity.identities(entity.texts_of(self.keys))
        times = np.full(
            len(identities), np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")
        )
        return self.offline.historical(self.view.schema, entity.name, identities, times)


def keyed_files(settings: Settings, folder: Path) -> dict[str, KeyedFile]:
    """The raw files once for each kind of key."""
    frame = pl.concat([batch.columns for batch in raw_source(settings).read()])
    numbers = list(range(1, len(frame) + 1))
    planes = [f"N{number * 7919 % 99991:05}{'ABCD'[number % 4]}" for number in numbers]
    columns: dict[str, dict[str, Sequence[int | str]]] = {
        "whole": {"user_id": numbers},
        "text": {"tail_number": [f"{plane}-{n}" for plane, n in zip(planes, numbers, strict=True)]},
        "composite": {"plane": planes, "row_number": numbers},
    }
    files = {}
    for kind, keys in columns.items():
        path = folder / f"{kind}.csv"
        frame.with_columns(pl.Series(name, values) for name, values in keys.items()).write_csv(path)
        rows = list(zip(*keys.values(), strict=True))
        given = rows if len(keys) > 1 else [row[0] for row in rows]
        files[kind] = KeyedFile(ENTITIES[kind], path, given)
    return files


def fill(settings: Settings, file: KeyedFile) -> Filled:
    """Bring a file into both stores, as the pipeline does, as a view of its own."""
    view, offline = file.view(), offline_store(settings)
    online = online_store(settings, schema=view.schema)
    columns = file.entity.columns
    source = settings.feature.source.model_copy(
        update={
            "files": (SourceFile(path=str(file.path)),),
            "key_column": columns[0] if len(columns) == 1 else columns,
            "columns": (),
        }
    )
    assert isinstance(source, FileReading)
    config = settings.feature.model_copy(update={"source": source})
    reading = FileSource(source, file.path.parent, {}, name=view.name, is_counted=False)
    now = datetime.now(UTC)
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, view.schema, view.entity)
        compute(reading.read(), staging, view, config, None, Stopwatch(), now)
        versions.start_fill(offline, online, view.entity)
        materialize(offline, online, staging.store().keys, now + timedelta(seconds=1))
        versions.switch(offline, online, 0.01)
    return Filled(view, offline, online, file.keys)


def main() -> int:
    """Measure each kind of key in turn."""
    report = Report("key_types", packages=["numpy", "polars", "psycopg", "redis"])
    rounds, repeats = (2, 100) if is_quick() else (7, 1_000)
    with servers() as settings, tempfile.TemporaryDirectory() as folder:
        migrate(postgres_url(as_owner(settings)))
        files = keyed_files(settings, Path(folder))

        def ingest(file: KeyedFile) -> Callable[[], float]:
            return seconds(lambda: fill(settings, file))

        report.add("ingest", "s", interleaved({k: ingest(f) for k, f in files.items()}, rounds))
        filled = {kind: fill(settings, file) for kind, file in files.items()}
        cycle = itertools.cycle(range(0, 40_000, HUNDRED))

        def reads(n: int) -> dict[str, Callable[[], float]]:
            def read(one: Filled) -> Callable[[], object]:
                def read_next() -> object:
                    start = next(cycle)
                    return one.read(one.keys[start : start + n])

                return read_next

            return {kind: each(read(one), repeats) for kind, one in filled.items()}

        report.add("one_read", "us", interleaved(reads(1), rounds))
        report.add("hundred_reads", "us", interleaved(reads(HUNDRED), rounds))
        history = {kind: seconds(one.history) for kind, one in filled.items()}
        report.add("history", "s", interleaved(history, rounds))
    for metric in ("ingest", "one_read", "hundred_reads", "history"):
        for kind in ("text", "composite"):
            report.ratio(kind, "whole", metric)
        report.target(f"text_over_whole_{metric}", "<=", 1.3)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
