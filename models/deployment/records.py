"""Append-only tables of a registered model in PostgreSQL: one connection, kept and replaced."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from feature_store.offline.postgres import unavailable

Connection = psycopg.Connection[Any]


class Records:
    """The records of one registered model.

    Parameters
    ----------
    connect
        Opens a connection to PostgreSQL; one is kept open and replaced when it breaks.
    model_name
        The registered model whose records these are.
    """

    def __init__(self, connect: Callable[[], Connection], model_name: str) -> None:
        self.connect = connect
        self.model_name = model_name
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _insert(self, connection: Connection, table: str, row: dict[str, Any]) -> None:
        row = {"model_name": self.model_name} | row
        places = ", ".join(f"%({name})s" for name in row)
        insert = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"
        connection.execute(insert, row)

    def _read(self, query: str, *more: Any) -> list[dict[str, Any]]:
        """Rows of a query whose first parameter is the model's name."""
        with (
            self._translated() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            return cursor.execute(query, (self.model_name, *more)).fetchall()

    @contextmanager
    def _translated(self) -> Iterator[Connection]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self.connect()
                self._connection.autocommit = True
                weakref.finalize(self, self._connection.close)
            yield self._connection
        except psycopg.Error as error:
            self.close()
            raise unavailable(error) from error
