"""Bulk writes of what changed: a row that is stored already is not stored again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from feature_store.offline.binary_copy import CopyColumn
from feature_store.offline.postgres import copy_into, lock_table

if TYPE_CHECKING:
    import psycopg


def append_changed(
    connection: psycopg.Connection,
    table: str,
    blocks: Iterable[Sequence[CopyColumn]],
    key: Sequence[str],
    value: str,
    among: str = "true",
    *,
    may_repeat: bool = False,
) -> int:
    """Copy blocks of rows into a temporary table, then `insert_changed` from there.

    Memory is that of a block.

    Parameters
    ----------
    may_repeat
        Whether a key may come more than once: then the last row counts.
    """
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        return 0
    names = ", ".join(column.name for column in first)
    connection.execute(
        f"CREATE TEMP TABLE staged ON COMMIT DROP AS SELECT {names} FROM {table} LIMIT 0"
    )
    copy_into(connection, "staged", itertools.chain([first], blocks))
    if may_repeat:
        keep_last(connection, "staged", key, "ctid")
    lock_table(connection, table)
    return insert_changed(connection, "staged", names, table, key, value, among)


def keep_last(connection: psycopg.Connection, table: str, key: Sequence[str], place: str) -> None:
    """Delete the rows of a table that another one with the same key and a later place replaces."""
    same = " AND ".join(f"earlier.{name} = later.{name}" for name in key)
    connection.execute(
        f"DELETE FROM {table} AS earlier USING {table} AS later "
        f"WHERE {same} AND earlier.{place} < later.{place}"
    )


def insert_changed(
    connection: psycopg.Connection,
    staged: str,
    names: str,
    table: str,
    key: Sequence[str],
    value: str,
    among: str = "true",
    created: datetime | None = None,
) -> int:
    """Insert staged rows that differ from the newest stored ones for their key; return how many.

    The work grows with the rows and not with the table, since an index on ``key`` leads to the
    stored ones. Nobody else may write the table meanwhile.

    Parameters
    ----------
    staged, names
        A table with one row a key, and its columns.
    value
        The column by which rows differ.
    among
        Condition on the stored rows that are compared with.
    created
        The ``created_timestamp`` of rows that come without one.
    """
    same = " AND ".join(f"{table}.{name} = {staged}.{name}" for name in key)
    into, values = names, names
    if created is not None:
        into, values = f"{names}, created_timestamp", f"{names}, %s"
    # While a table is small a scan of it looks cheap; but it grows meanwhile.
    connection.execute("SET LOCAL enable_seqscan = off")
    return connection.execute(
        f"""
        INSERT INTO {table} ({into}) SELECT {values} FROM {staged} WHERE NOT EXISTS (
            SELECT FROM (
                SELECT {value} FROM {table} WHERE {same} AND {among}
                ORDER BY created_timestamp DESC LIMIT 1
            ) AS newest WHERE newest.{value} = {staged}.{value}
        )""",
        [] if created is None else [created],
    ).rowcount
