"""Online rows of a Feast user's own views: Feast's values under Feast's keys, one value an entity.

========  =====  ==========================================================
bytes     type   meaning
========  =====  ==========================================================
0-8       bytes  ``feastrow``, where rows of our views have a fingerprint
8-16      i8     length of the entity key
16-24     i8     event time, microseconds since 1970 in UTC
24-32     i8     created time, likewise: when the writer learned the row
32-       bytes  the entity key, so that a reply meant for another is noticed
then      bytes  the features by name, as Feast's message ``Map``
========  =====  ==========================================================

The times stand where those of our rows stand, so the same script compares them on the server; of
rows with the same times the last one counts, since the view's fields may have changed. A Redis key
is ``{project}:feast-view:{view}:`` and the entity key; no view of ours is called so.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from feast.feature_view import DUMMY_ENTITY_ID
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, VALUE_TYPE_TO_PROTO_VALUE_MAP
from feast.types import FeastType
from feast.value_type import ValueType

from feature_store.definitions.horizon import refuse_future
from feature_store.errors import InvalidValue, SchemaMismatch
from feature_store.feast_plugin.conversion import WrittenRow
from feature_store.feast_plugin.field_values import maybe_rounded
from feature_store.online.conditional_write import MOST_ROWS, write_newest
from feature_store.online.row_codec import HEADER_BYTES, microseconds_of, moment_of
from feature_store.online_store import translated

if TYPE_CHECKING:
    from redis import Redis

MAGIC = b"feastrow"
FAMILY = "feast-view"
"""Stands in Redis keys where our own rows have the name of their view, which has no hyphen."""
DELETED_AT_ONCE = 1_000
_HEADER = struct.Struct("<8sqqq")
_SIZE = struct.Struct("<I")
_KINDS = {
    **VALUE_TYPE_TO_PROTO_VALUE_MAP,
    **dict.fromkeys((ValueType.PDF_BYTES, ValueType.IMAGE_BYTES), "bytes_val"),
    ValueType.ZONED_TIMESTAMP: "zoned_timestamp_val",
}
_EMPTY = (None, "null_val")
_ALIKE = {
    kind: frozenset(family)
    for family in (
        *(("int32_val", "int64_val"), ("float_val", "double_val")),
        *(("int32_list_val", "int64_list_val"), ("float_list_val", "double_list_val")),
    )
    for kind in family
}
"""Values of which one may stand for the other: they keep their digits."""


@dataclass(frozen=True)
class ForeignRow:
    """One decoded row: when its event happened (microseconds since 1970), and its features."""

    event_time_us: int
    values: Mapping[str, Value]

    @property
    def event_time(self) -> datetime:
        """When its event happened."""
        return moment_of(self.event_time_us)


class ForeignRows:
    """The rows of one view of a Feast user's own.

    Parameters
    ----------
    project
        The Feast project; each has its own rows.
    table
        The view as Feast knows it.
    """

    def __init__(self, project: str, table: Any) -> None:
        self.view = table.name
        self.prefix = prefix_of(project, table.name)
        self.ttl: timedelta | None = getattr(table, "ttl", None) or None
        self.kinds = {field.name: _kind(field.dtype) for field in table.features}
        # Rows of an on-demand view that is written carry its key among the features.
        self._beside = {field.name for field in table.schema} - self.kinds.keys()

    def key(self, entity_key: bytes) -> bytes:
        """The Redis key of an entity, given its `key_bytes`."""
        return self.prefix + entity_key

    def write(self, client: Redis, rows: Sequence[WrittenRow], batch_rows: int) -> int:
        """Write rows where they are newer than what is stored; return how many were.

        Raises
        ------
        InvalidValue
            If a row lacks its key or its time, or a value is not of its field's type, or may have
            lost digits; nothing is written.
        InvalidEvent
            If an event has not happened yet; nothing is written.
        StoreUnavailable
            If Redis does not answer in time, is full, or refuses the write.
        """
        self._refuse_unnamed(rows)
        now = datetime.now(UTC)
        times = np.array([_aware(event).replace(tzinfo=None) for _, _, event, _ in rows], "M8[us]")
        refuse_future(times, now, f"rows of '{self.view}'")
        self._refuse_lost_digits([values for _, values, _, _ in rows])
        keys = [key_bytes(key) for key, _, _, _ in rows]
        packed = [self._pack(key, row, now) for key, row in zip(keys, rows, strict=True)]
        size = min(batch_rows, MOST_ROWS)
        batches = (
            ([self.key(key) for key in keys[at : at + size]], packed[at : at + size])
            for at in range(0, len(rows), size)
        )
        with translated("write"):
            return write_newest(client, batches, or_equal=True)

    def read(
        self, entity_key: bytes, packed: bytes | None, names: Sequence[str]
    ) -> ForeignRow | None:
        """Some features of an entity out of what Redis holds; None where there is none.

        A feature that is stored as another type than its field has now is left out.

        Raises
        ------
        SchemaMismatch
            If it is no such row, or that of another entity.
        """
        if packed is None:
            return None
        if len(packed) < HEADER_BYTES:
            raise SchemaMismatch(self._unreadable(f"{len(packed)} bytes"))
        magic, size, event_time, _ = _HEADER.unpack_from(packed)
        if magic != MAGIC or packed[HEADER_BYTES : HEADER_BYTES + size] != entity_key:
            raise SchemaMismatch(self._unreadable("of another kind, or of another entity"))
        held, kinds = Map.FromString(packed[HEADER_BYTES + size :]).val, self.kinds
        found = {name: held[name] for name in names if name in held}
        values = {name: each for name, each in found.items() if _fits(each, kinds.get(name, ""))}
        return ForeignRow(event_time, values)

    def expired(self, row: ForeignRow, now: datetime) -> bool:
        """Whether the row's event is older than the view's TTL."""
        return self.ttl is not None and row.event_time_us < microseconds_of(now - self.ttl)

    def _pack(self, key: bytes, row: WrittenRow, now: datetime) -> bytes:
        _, values, event, created = row
        held = Map()
        for name, value in values.items():
            if name in self._beside:
                continue
            self._refuse_type(name, value)
            held.val[name].CopyFrom(Value() if _is_null(value) else value)
        known = now if created is None or created != created else _aware(created)
        times = microseconds_of(_aware(event)), microseconds_of(known)
        header = _HEADER.pack(MAGIC, len(key), *times)
        features: bytes = held.SerializeToString(deterministic=True)
        return header + key + features

    def _refuse_unnamed(self, rows: Sequence[WrittenRow]) -> None:
        """Refuse rows that do not say whom they are about, or when their event was."""
        for number, (key, _, event, _) in enumerate(rows, 1):
            whole = all(part.WhichOneof("val") not in _EMPTY for part in key.entity_values)
            if not whole or event != event:
                what = "event time" if whole else f"key ({', '.join(key.join_keys)})"
                raise InvalidValue(
                    f"Row {number:,} of '{self.view}' has no {what}. Nothing was written. Give it "
                    "one, or leave the row out."
                )

    def _refuse_type(self, name: str, value: Value) -> None:
        expected = self.kinds.get(name)
        if expected is None:
            raise InvalidValue(
                f"'{name}' is no feature of '{self.view}'. Known: {', '.join(self.kinds)}."
            )
        if not _fits(value, expected):
            raise InvalidValue(
                f"'{self.view}:{name}' is a {value.WhichOneof('val')}, expected {expected}. Write "
                "values of the type that the field declares, or change the field and apply."
            )

    def _refuse_lost_digits(self, rows: Sequence[Mapping[str, Value]]) -> None:
        """Refuse rows whose whole numbers Feast may have rounded; see `refuse_lost_digits`."""
        for name in (name for name, kind in self.kinds.items() if kind == "int64_val"):
            given = (row.get(name) for row in rows)
            rounded = maybe_rounded(
                [v.int64_val if v is not None and v.HasField("int64_val") else None for v in given]
            )
            if rounded is not None:
                raise InvalidValue(
                    f"'{self.view}:{name}' is {rounded} in one of these rows and missing in "
                    "another: Feast hands such columns over as float64, in which whole numbers "
                    "beyond 2**53 lose digits. Write the rows without a value apart, or declare "
                    "the field as String."
                )

    def _unreadable(self, what: str) -> str:
        return (
            f"What Redis holds as an online row of '{self.view}' is no such row ({what}). "
            "Run `feast materialize` to write it again."
        )


def prefix_of(project: str, view: str) -> bytes:
    """What stands before the entity key in the Redis keys of a view.

    Examples
    --------
    >>> prefix_of("fti", "drivers:v 2*")
    b'fti:feast-view:drivers%3Av%202%2A:'
    """
    return f"{project}:{FAMILY}:{quote(view, safe='')}:".encode()


def key_bytes(key: EntityKey) -> bytes:
    """An entity key as bytes that no other one has, in whichever order its parts come.

    Feast's own form knows fewer types, and tells 7 of 32 bits from 7 of 64. Of a view without
    entities some of Feast's writes have no key and its reads have a placeholder: both are none.

    Examples
    --------
    >>> a, b = Value(int32_val=7), Value(string_val="x")
    >>> one = key_bytes(EntityKey(join_keys=["b", "a"], entity_values=[b, a]))
    >>> one == key_bytes(EntityKey(join_keys=["a", "b"], entity_values=[Value(int64_val=7), b]))
    True
    """
    parts = list(zip(key.join_keys, key.entity_values, strict=True))
    return b"" if key.join_keys == [DUMMY_ENTITY_ID] else packed_key(parts)


def packed_key(parts: list[tuple[str, Value]]) -> bytes:
    """`key_bytes` of a key, part by part."""
    if len(parts) > 1:
        parts.sort(key=lambda part: part[0])
    packed = []
    for name, value in parts:
        wide = Value(int64_val=value.int32_val) if value.HasField("int32_val") else value
        for text in (name.encode(), wide.SerializeToString(deterministic=True)):
            packed += [_SIZE.pack(len(text)), text]
    return b"".join(packed)


def delete_foreign_rows(client: Redis, project: str, views: Sequence[str]) -> None:
    """Delete the rows of some views; walks the keys of the project's views once."""
    prefixes, found = tuple(prefix_of(project, view) for view in views), []
    with translated("delete"):
        for key in client.scan_iter(f"{project}:{FAMILY}:*", count=10_000):
            if key.startswith(prefixes):
                found.append(key)
            if len(found) == DELETED_AT_ONCE:
                client.unlink(*found)
                found.clear()
        if found:
            client.unlink(*found)


@lru_cache(maxsize=1_000)
def _kind(dtype: FeastType) -> str:
    """Which of Feast's values a field of a type holds; empty where any may."""
    return _KINDS.get(dtype.to_value_type(), "")


def _is_null(value: Value) -> bool:
    """Whether a value is one of Feast's three nulls: it reads the second as 0."""
    if value.HasField("unix_timestamp_val"):
        return bool(value.unix_timestamp_val == NULL_TIMESTAMP_INT_VALUE)
    return value.WhichOneof("val") in _EMPTY


def _fits(value: Value, kind: str) -> bool:
    found = value.WhichOneof("val")
    return not kind or found == kind or found in _EMPTY or found in _ALIKE.get(kind, ())


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
