"""The layout of an online row: a 32-byte header, then the vector as packed float32.

========  =====  ==========================================================
bytes     type   meaning
========  =====  ==========================================================
0-8       bytes  schema fingerprint
8-16      i8     entity key, so that a reply meant for another is noticed
16-24     i8     event time, microseconds since 1970 in UTC
24-32     i8     created time, likewise: when the store learned the row
32-       f4[p]  the features, in the order of the schema
then      bytes  the exact columns, where there are some; see `ExactCodec`
========  =====  ==========================================================

Everything is little-endian. A row is one value, so it is never half-visible.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.exact import EPOCH, MICROSECOND, ExactCodec, ExactValue
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import SchemaMismatch

HEADER_BYTES = 32
_NUMBERS = struct.Struct("<qqq")


def row_prefix(project: str, schema: FeatureSchema) -> str:
    """What stands before the entity in the Redis key of a row: versions lie side by side.

    Examples
    --------
    >>> from feature_store.feature_definitions import USER_FEATURES
    >>> row_prefix("fti", USER_FEATURES.schema)
    'fti:user_features:...:'
    """
    return f"{project}:{schema.view}:{schema.definition_fingerprint[:8]}:"


@dataclass(frozen=True)
class Row:
    """One decoded online row.

    Parameters
    ----------
    key
        Entity key.
    event_time_us, created_time_us
        Microseconds since 1970 in UTC.
    vector
        float32 ``(p,)``; a read-only view of the bytes.
    exact
        Values of the exact columns; None where the schema has none.
    """

    key: int
    event_time_us: int
    created_time_us: int
    vector: NDArray[np.float32]
    exact: tuple[ExactValue, ...] | None = None


class Codec(Protocol):
    """Packs what online rows of a schema hold, vectors or tiles, and unpacks one to its vector."""

    def encode(
        self,
        values: Any,
        keys: NDArray[np.int64],
        times: NDArray[np.datetime64],
        created: NDArray[np.datetime64] | np.datetime64,
    ) -> list[bytes]:
        """Pack ``n`` rows."""

    def decode(self, key: int, packed: bytes, now: datetime | None = None) -> Row:
        """Unpack one row, as of ``now``."""


class RowCodec:
    """Packs vectors of one schema into rows and back.

    Examples
    --------
    >>> from feature_store.feature_definitions import USER_FEATURES
    >>> codec = RowCodec(USER_FEATURES.schema)
    >>> vector = np.zeros((1, 47), dtype=np.float32)
    >>> time = np.array(["2020-01-01"], dtype="datetime64[us]")
    >>> [packed] = codec.encode(vector, np.array([7]), time, time[0])
    >>> len(packed), codec.decode(7, packed).key
    (220, 7)
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.fingerprint = bytes.fromhex(schema.fingerprint)
        self.exact = ExactCodec(schema.exact) if schema.exact else None
        self.dtype = np.dtype(
            [
                ("fingerprint", "V8"),
                ("key", "<i8"),
                ("event_time", "<i8"),
                ("created_time", "<i8"),
                ("vector", "<f4", (len(schema),)),
            ]
        )

    def encode(
        self,
        values: NDArray[np.float32],
        keys: NDArray[np.int64],
        times: NDArray[np.datetime64],
        created: NDArray[np.datetime64] | np.datetime64,
        exact: NDArray[np.object_] | None = None,
    ) -> list[bytes]:
        """Pack ``(n, p)`` values with keys ``(n,)`` and times ``(n,)`` into ``n`` rows.

        Parameters
        ----------
        exact
            Values of the exact columns ``(n, k)``, where there are some.
        """
        rows = np.empty(len(keys), dtype=self.dtype)
        rows["fingerprint"] = np.void(self.fingerprint)
        rows["key"] = keys
        rows["event_time"] = times.astype("datetime64[us]").astype(np.int64)
        rows["created_time"] = np.asarray(created).astype("datetime64[us]").astype(np.int64)
        rows["vector"] = values
        packed, size = rows.tobytes(), self.dtype.itemsize
        fixed = [packed[start : start + size] for start in range(0, len(packed), size)]
        if self.exact is None:
            return fixed
        if exact is None:
            exact = np.full((len(keys), len(self.schema.exact)), None, dtype=object)
        return [row + self.exact.pack(values) for row, values in zip(fixed, exact, strict=True)]

    def decode(self, key: int, packed: bytes, now: datetime | None = None) -> Row:
        """Unpack one row; a stored vector is the same at any time, so ``now`` does not matter.

        Raises
        ------
        SchemaMismatch
            If the row was written under another definition of the features, or belongs to
            another entity.
        """
        event_time, created_time = self.times_of(key, packed)
        if self.exact is None:
            vector = np.frombuffer(packed, "<f4", offset=HEADER_BYTES)
            return Row(key, event_time, created_time, vector)
        vector = np.frombuffer(packed, "<f4", len(self.schema), HEADER_BYTES)
        exact = self.exact.unpack(packed[self.dtype.itemsize :])
        return Row(key, event_time, created_time, vector, exact)

    def times_of(self, key: int, packed: bytes) -> tuple[int, int]:
        """Check a row as `decode` does, and give its event time and created time."""
        is_whole = len(packed) == self.dtype.itemsize or (
            self.exact is not None and len(packed) > self.dtype.itemsize
        )
        if not is_whole or packed[:8] != self.fingerprint:
            raise other_schema(self.schema, key, packed, self.dtype.itemsize)
        stored, event_time, created_time = _NUMBERS.unpack_from(packed, 8)
        if stored != key:
            raise other_entity(self.schema, key, stored)
        return event_time, created_time


def packed_headers(
    fingerprint: bytes,
    keys: NDArray[np.int64],
    times: NDArray[np.datetime64],
    created: NDArray[np.datetime64] | np.datetime64,
) -> list[bytes]:
    """The headers of ``n`` rows, 32 bytes each, for layouts of several lengths."""
    headers = np.empty((len(keys), 4), dtype="<i8")
    headers[:, 0] = np.frombuffer(fingerprint, dtype="<i8")
    headers[:, 1] = keys
    headers[:, 2] = times.astype("datetime64[us]").astype(np.int64)
    headers[:, 3] = np.asarray(created).astype("datetime64[us]").astype(np.int64)
    packed = headers.tobytes()
    return [packed[at : at + HEADER_BYTES] for at in range(0, len(packed), HEADER_BYTES)]


def other_schema(schema: FeatureSchema, key: int, packed: bytes, expected: int) -> SchemaMismatch:
    """The error for a row of another definition, or of a length that the definition rules out."""
    return SchemaMismatch(
        f"The online row of {schema.view} {key} was written for schema "
        f"{packed[:8].hex()} ({len(packed)} bytes); this reader expects "
        f"{schema.fingerprint} ({expected} bytes). Run the feature "
        "pipeline again to write rows of the present definition."
    )


def other_entity(schema: FeatureSchema, key: int, stored: int) -> SchemaMismatch:
    """The error for a row that belongs to another entity."""
    return SchemaMismatch(
        f"Asked for {schema.view} {key}, the store answered with the row of {stored}."
    )


def microseconds_of(moment: datetime) -> int:
    """Whole microseconds since 1970 of an aware time; a float would lose the last one.

    Examples
    --------
    >>> microseconds_of(EPOCH.replace(year=2026, microsecond=1))
    1767225600000001
    """
    return (moment - EPOCH) // MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """The time in UTC, so many microseconds since 1970."""
    return EPOCH + microseconds * MICROSECOND
