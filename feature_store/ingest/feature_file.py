"""Features and labels in one Parquet file: out of the offline store, and back into empty ones."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store import versions
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import FeatureStoreError
from feature_store.ingest.materialize import materialize
from feature_store.ingest.staging import Staging, Stored
from feature_store.offline_store import Labels, OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.training_data import TrainingRows

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = "exact:"
"""Begins the name of an exact column: a feature may be called like it."""
TIME, LABEL, FINGERPRINT = "event_timestamp", "label", b"schema_fingerprint"
WORDS = b"words_of_open_vocabularies"


def write_rows(path: Path, rows: TrainingRows, entity: str) -> None:
    """Write rows: key, time, label, and every feature as float32 (categories as their codes).

    A key that is no whole number is written as its one text, exact columns in their own types.

    Equal rows give equal bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = rows.features
    columns = {
        entity: features.keys if rows.key_texts is None else rows.key_texts,
        TIME: features.times.astype("datetime64[us]"),
        LABEL: rows.labels,
        **dict(zip(features.schema.names, features.values.T, strict=True)),
    }
    arrays = {name: pa.array(np.ascontiguousarray(c)) for name, c in columns.items()}
    if features.exact is not None:
        for place, column in enumerate(features.schema.exact):
            values = features.exact[:, place].tolist()
            arrays[f"{EXACT}{column.name}"] = pa.array(values, _arrow_type(column))
    table = pa.table(arrays)
    about = {
        FINGERPRINT: features.schema.fingerprint.encode(),
        WORDS: json.dumps(features.schema.words).encode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(about), path, compression="zstd")


def read_rows(path: Path, schema: FeatureSchema, entity: str) -> TrainingRows:
    """Read what `write_rows` wrote, to the bit.

    Raises
    ------
    FeatureStoreError
        If there is no such file, or it holds features of another definition.
    """
    import pyarrow.parquet as pq

    if not path.exists():
        raise FeatureStoreError(f"There is no {path}. Run `dvc repro`, or `dvc pull`.")
    table = pq.read_table(path)
    found = (table.schema.metadata or {}).get(FINGERPRINT, b"none").decode()
    if found != schema.fingerprint:
        raise FeatureStoreError(
            f"{path} holds features {found}; this code defines {schema.fingerprint}. Run "
            "`dvc repro`, or check out the commit that it belongs to."
        )
    schema = schema.with_words(json.loads((table.schema.metadata or {}).get(WORDS, b"{}")))
    keys, texts = table[entity].to_numpy(), None
    if schema.key is not None:
        texts, keys = keys, schema.key.identities(keys)
    values = np.column_stack([table[name].to_numpy() for name in schema.names])
    matrix = FeatureMatrix(
        np.ascontiguousarray(values, dtype=np.float32),
        keys,
        table[TIME].to_numpy().astype("datetime64[us]"),
        schema,
        _exact_of(table, schema),
    )
    return TrainingRows(matrix, table[LABEL].to_numpy().astype(np.int8), texts)


def _arrow_type(column: ExactColumn) -> pa.DataType:
    import pyarrow as pa

    types = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
    return types.get(column.type, pa.timestamp("us", "UTC"))


def _exact_of(table: pa.Table, schema: FeatureSchema) -> NDArray[np.object_] | None:
    if not schema.exact:
        return None
    values = np.full((table.num_rows, len(schema.exact)), None, dtype=object)
    for place, column in enumerate(schema.exact):
        read = [column.read(value) for value in table[f"{EXACT}{column.name}"].to_pylist()]
        values[:, place] = read
    return values


def refill(offline: OfflineStore, online: OnlineStore, rows: TrainingRows, entity: str) -> Stored:
    """Bring rows into both stores; those that are there already stay as they are.

    Raises
    ------
    FeatureStoreError
        If the store has another vocabulary: the codes of the rows would say other words.
    StoreUnavailable
        If a store does not answer; running again completes it.
    """
    features = rows.features
    offline.vocabularies.adopt(features.schema)
    labels = Labels(features.keys, rows.labels, features.times)
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, features.schema, entity)
        staging.add(features, labels, [], rows.key_texts)
        versions.start_fill(offline, online, entity)
        stored = staging.store()
        materialize(offline, online, stored.keys, datetime.now(UTC))
        versions.switch(offline, online, 0)
    return stored


def md5(path: Path) -> str:
    """MD5 of a file in hex, as DVC knows it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
