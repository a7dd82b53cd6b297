"""Keys of the rows: read, checked to be all different, and summed up, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.cleaning import LARGEST_WHOLE, WHOLE_WITH_FRACTION
from feature_store.definitions.entity import Entity, KeyValue
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import InvalidValue
from feature_store.offline_store import OfflineStore
from pipelines.batch.errors import InputUnusable

if TYPE_CHECKING:
    import pyarrow as pa


BUCKETS = 64
"""Files among which keys in no order are divided: 100 million take some 12 MB each."""
Keys = NDArray[np.int64]


def key_checksum(keys: Keys) -> int:
    """Sum of the hashes of keys ``(n,)``, modulo 2**64: the same in any order.

    A key that is missing, or there twice, changes it. The hash is the finalizer of SplitMix64
    (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).

    Examples
    --------
    >>> key_checksum(np.array([1, 2, 3])) == key_checksum(np.array([3, 1, 2]))
    True
    >>> key_checksum(np.array([1, 2, 2])) == key_checksum(np.array([1, 2]))
    False
    """
    return int(_hashes(keys).sum(dtype=np.uint64))


def combine_checksums(checksums: Iterable[int]) -> int:
    """The checksum of all keys, from those of parts of them."""
    return sum(checksums) % 2**64


def keys_of(column: pa.ChunkedArray | pa.Array, name: str, path: str, first_row: int = 1) -> Keys:
    """Keys ``(n,)`` of a column of whole numbers, or of texts or floats that are some.

    Raises
    ------
    InputUnusable
        If it has another type, or a key is missing or no whole number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    is_float = pa.types.is_floating(kind)
    is_whole = is_float and pc.all(pc.equal(column, pc.floor(column))).as_py() is not False
    if not (pa.types.is_integer(kind) or is_text(kind) or is_whole):
        raise InputUnusable(f"Column '{name}' of {path} is {kind}; expected whole numbers.")
    if is_text(kind):
        column = pc.utf8_trim_whitespace(column)
        # As pandas and Spark write whole numbers where others of their column are missing.
        column = pc.replace_substring_regex(column, WHOLE_WITH_FRACTION, r"\1")
    if is_whole and (pc.max(pc.abs(column)).as_py() or 0) > LARGEST_WHOLE:
        raise InputUnusable(
            f"Column '{name}' of {path} is {kind} with keys above 2**53, of which digits are lost "
            "already. Write whole numbers."
        )
    try:
        whole = column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputUnusable(
            f"Column '{name}' of {path} has, after row {first_row - 1:,}, what is no whole number: "
            f"{' '.join(str(error).split())}."
        ) from error
    if whole.null_count:
        row = first_row + int(pc.index(pc.is_null(whole), True).as_py())
        raise InputUnusable(f"Row {row:,} of {path} has no '{name}'. Fill it in or drop the row.")
    keys: Keys = whole.to_numpy()
    return keys


class KeyReader:
    """Reads the key's columns of an input.

    Parameters
    ----------
    entity
        Whose keys.
    """

    def __init__(self, entity: Entity) -> None:
        self.entity = entity

    @property
    def fields(self) -> list[tuple[str, pa.DataType]]:
        """Names and types of the key's columns, as they are written."""
        import pyarrow as pa

        types = {"integer": pa.int64(), "string": pa.string()}
        return [(part.name, types[part.type]) for part in self.entity.parts]

    def read(self, rows: pa.Table | pa.RecordBatch, path: str, first_row: int = 1) -> Keys:
        """Identities ``(n,)`` of the keys of rows.

        Raises
        ------
        InputUnusable
            If a key is missing, or none of this entity.
        """
        if self.entity.is_whole:
            [name] = self.entity.columns
            return keys_of(rows.column(name), name, path, first_row)
        texts = [self.entity.text(key) for key in self._values(rows, path, first_row)]
        return self.entity.identities(texts)

    def texts(self, rows: pa.Table | pa.RecordBatch, path: str) -> list[str] | None:
        """The text of each key that `read` gives; None where it is the identity itself."""
        if self.entity.is_whole:
            return None
        return [self.entity.text(key) for key in self._values(rows, path, 1)]

    def table(self, texts: Sequence[str | None]) -> pa.Table:
        """The key's columns of keys that are given by their text."""
        import pyarrow as pa

        keys = [self.entity.values(self.entity.parse(text)) for text in texts if text is not None]
        return pa.Table.from_pylist(keys, schema=pa.schema(self.fields))

    def _values(
        self, rows: pa.Table | pa.RecordBatch, path: str, first_row: int
    ) -> Iterator[KeyValue]:
        columns = [rows.column(name).to_pylist() for name in self.entity.columns]
        for row, values in enumerate(zip(*columns, strict=True), start=first_row):
            try:
                yield self.entity.read(values if len(values) > 1 else values[0])
            except InvalidValue as error:
                raise InputUnusable(f"Row {row:,} of {path}: {error}.") from None


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts, however Arrow lays them out."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def ascend(keys: Keys, after: int | None) -> bool:
    """Whether keys ``(n,)`` grow from row to row, beginning above ``after``: then none repeats."""
    if after is not None and len(keys) and keys[0] <= after:
        return False
    return bool((keys[1:] > keys[:-1]).all())


def first_duplicate(blocks: Iterable[Keys]) -> int | None:
    """A key that comes twice in blocks in any order; None when all are different.

    The keys are divided among files by their hash, and each file is looked at by itself.
    """
    with tempfile.TemporaryDirectory(prefix="fti-keys-") as folder:
        files = [Path(folder) / str(bucket) for bucket in range(BUCKETS)]
        for file in files:
            file.touch()
        for keys in blocks:
            buckets = (_hashes(keys) % np.uint64(BUCKETS)).astype(np.int64)
            order = np.argsort(buckets, kind="stable")
            ends = np.searchsorted(buckets[order], np.arange(1, BUCKETS))
            for file, part in zip(files, np.split(keys[order], ends), strict=True):
                with file.open("ab") as opened:
                    opened.write(part.tobytes())
        return next(_repeats(files), None)


def _repeats(files: Sequence[Path]) -> Iterator[int]:
    for file in files:
        keys = np.sort(np.fromfile(file, dtype=np.int64))
        yield from keys[1:][keys[1:] == keys[:-1]].tolist()


def _hashes(keys: Keys) -> NDArray[np.uint64]:
    x = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


EVERY_KEY = -(2**63), 2**63 - 1


def entities(
    offline: OfflineStore,
    schema: FeatureSchema,
    entity: str,
    *,
    as_of: datetime,
    known_by: datetime,
    keys: tuple[int, int] = EVERY_KEY,
) -> Iterator[Keys]:
    """Keys that have an event before a time, in blocks as they arrive.

    Parameters
    ----------
    as_of
        Events before this time.
    known_by
        Only rows that the store had learned by then.
    keys
        The first and last key to look at.
    """
    query = (
        f"SELECT DISTINCT {entity} FROM {offline.table(schema)} "
        f"WHERE {entity} BETWEEN '{keys[0]}' AND '{keys[1]}' "
        f"AND event_timestamp < '{as_of.isoformat()}' "
        f"AND created_timestamp <= '{known_by.isoformat()}' ORDER BY {entity}"
    )
    for block in offline.postgres.stream(query):
        yield block[entity].to_numpy()
