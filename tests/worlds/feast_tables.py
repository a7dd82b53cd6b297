"""Tables of a Feast user's own, in our database: of every type that Feast infers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from feast import Entity, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)

from tests.worlds.feast import World

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
TYPES: dict[str, tuple[str, Any, Any]] = {
    "a_bool": ("boolean", Bool, True),
    "a_bytes": ("bytea", Bytes, b"\x00\xff"),
    "a_text": ("text", String, "Zürich"),
    "an_int": ("integer", Int32, -7),
    "a_bigint": ("bigint", Int64, 2**62 + 1),
    "a_real": ("real", Float32, 0.5),
    "a_double": ("double precision", Float64, 0.1),
    "a_time": ("timestamp with time zone", UnixTimestamp, NOON),
    "bools": ("boolean[]", Array(Bool), [True, False]),
    "some_bytes": ("bytea[]", Array(Bytes), [b"\x00", b"b"]),
    "texts": ("text[]", Array(String), ["a", "b,c"]),
    "ints": ("integer[]", Array(Int32), [1, -2]),
    "bigints": ("bigint[]", Array(Int64), [2**53 + 1]),
    "reals": ("real[]", Array(Float32), [0.5, 1.25]),
    "doubles": ("double precision[]", Array(Float64), [0.1]),
    "times": ("timestamp with time zone[]", Array(UnixTimestamp), [NOON, NOON + DAY]),
}
"""Column to what PostgreSQL calls its type, what Feast does, and a value."""
names = (f"own_{number}" for number in itertools.count())


KEYS = {"driver_id": "bigint", "at": "timestamptz", "known": "timestamptz"}


def make(world: World, columns: dict[str, str], *rows: tuple[Any, ...]) -> str:
    """Make a table with these columns and rows; its name."""
    table = next(names)
    types = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    with world.offline.postgres.transaction() as connection:
        connection.execute(f"CREATE TABLE {table} ({types})")
        marks = ", ".join(["%s"] * len(columns))
        for row in rows:
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
    return table


def source(called: str, **options: Any) -> PostgreSQLSource:
    given = {"timestamp_field": "at", "created_timestamp_column": "known", "table": called}
    return PostgreSQLSource(name=f"{called}_rows", **(given | options))
