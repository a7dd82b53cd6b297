"""Connections to PostgreSQL: transactions, bulk reads into Arrow, bulk writes, what went wrong."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from configs.errors import reason_of
from feature_store.errors import StoreUnavailable
from feature_store.offline.binary_copy import CopyColumn, copy_blocks

if TYPE_CHECKING:
    import polars as pl
    import psycopg
    import pyarrow as pa

BLOCK_BYTES = 2**22
"""Some 12,000 rows of 47 features: large enough that the work on a block outweighs its overhead."""

LACKS_TABLES = ("42P01", "42703")
"""SQLSTATE of a table and of a column that is not there."""
MIGRATE = "Bring the tables forward: python -m infrastructure migrate"
REMEDIES = {
    "22": "Look at the values: one does not fit its column or its type",
    "23": "Look at the rows: they break a rule of the table",
    "28": "Check the user and the password of the URL",
    "3D": "Check the name of the database in the URL",
    "42": "Check the names, the types and the rights that the query needs",
}
"""What to do next by the class of the SQLSTATE, where PostgreSQL answered and said no."""

IngestMode = Literal["append", "create", "create_append", "replace"]


class Postgres:
    """A PostgreSQL database; a connection is opened for each call.

    Parameters
    ----------
    url
        ``postgresql://…``
    block_bytes
        About how much `stream` holds at a time.
    """

    def __init__(self, url: str, block_bytes: int = BLOCK_BYTES) -> None:
        self.url = url
        self.block_bytes = block_bytes

    def query(self, sql: str) -> pl.DataFrame:
        """Read a query's result through Arrow; times come back in UTC.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached, or lacks the table.
        """
        import adbc_driver_postgresql.dbapi as adbc
        import polars as pl
        from adbc_driver_manager import Error

        try:
            with adbc.connect(self.url) as connection, connection.cursor() as cursor:
                cursor.execute(sql)
                return pl.DataFrame(pl.from_arrow(cursor.fetch_arrow_table()))
        except (Error, OSError) as error:
            raise unavailable(error) from error

    def stream(self, sql: str, asked: pa.Table | None = None) -> Iterator[pl.DataFrame]:
        """`query` in blocks as they arrive: memory does not grow with the result.

        Parameters
        ----------
        asked
            Rows that the query finds in the temporary table ``asked``.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached, lacks the table, or goes away meanwhile.
        """
        import adbc_driver_postgresql.dbapi as adbc
        import polars as pl
        from adbc_driver_manager import Error
        from pyarrow import ArrowException

        try:
            with adbc.connect(self.url) as connection, connection.cursor() as cursor:
                if asked is not None:
                    cursor.adbc_ingest("asked", asked, mode="create", temporary=True)
                cursor.adbc_statement.set_options(
                    **{"adbc.postgresql.batch_size_hint_bytes": str(self.block_bytes)}
                )
                cursor.execute(sql)
                for batch in cursor.fetch_record_batch():
                    yield pl.DataFrame(pl.from_arrow(batch))
        except (Error, ArrowException, OSError) as error:  # Arrow's word for a lost connection
            raise unavailable(error) from error

    def ingest(self, table: str, rows: pa.Table, mode: IngestMode) -> None:
        """Write Arrow rows into a table: a new one, an existing one, or instead of what it holds.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached, or refuses the rows; nothing has been written then.
        """
        import adbc_driver_postgresql.dbapi as adbc
        from adbc_driver_manager import Error

        try:
            with adbc.connect(self.url) as connection, connection.cursor() as cursor:
                cursor.adbc_ingest(table, rows, mode=mode)
                connection.commit()
        except Error as error:
            raise unavailable(error) from error

    def append_staged(self, rows: pa.Table, insert: str) -> None:
        """Run an ``INSERT`` that reads Arrow rows as the temporary table ``staged``.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached, or refuses the rows; nothing has been written then.
        """
        import adbc_driver_postgresql.dbapi as adbc
        from adbc_driver_manager import Error

        try:
            with adbc.connect(self.url) as connection, connection.cursor() as cursor:
                cursor.adbc_ingest("staged", rows, mode="create", temporary=True)
                cursor.execute(insert)
                connection.commit()
        except (Error, OSError) as error:
            raise unavailable(error) from error

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """Open a connection with one transaction that is committed at the end.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away; nothing has been written then.
        """
        import psycopg

        with translated(), psycopg.connect(self.url, connect_timeout=5) as connection:
            yield connection


def copy_into(
    connection: psycopg.Connection, table: str, blocks: Iterable[Sequence[CopyColumn]]
) -> None:
    """Copy blocks of rows, all with the columns of the first, into a table."""
    blocks = iter(blocks)
    first = next(blocks)
    names = ", ".join(column.name for column in first)
    command = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        for chunk in copy_blocks(itertools.chain([first], blocks)):
            copy.write(chunk)


def lock_table(connection: psycopg.Connection[Any], table: str) -> None:
    """Wait until no other transaction writes a table: two must not both find a row new."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (table,))


def clock(connection: psycopg.Connection) -> np.datetime64:
    """The server's time, as datetime64[us] in UTC."""
    row = connection.execute("SELECT clock_timestamp() AT TIME ZONE 'UTC'").fetchone()
    assert row is not None
    return np.datetime64(row[0], "us")


@contextmanager
def transaction(
    connect: Callable[[], psycopg.Connection[Any]], problem: str, lock: str = ""
) -> Iterator[psycopg.Connection[Any]]:
    """Open a connection with one transaction that is committed at the end; rows are dictionaries.

    Parameters
    ----------
    problem
        What could not be done, for the message of an error.
    lock
        While one holds it others wait.

    Raises
    ------
    StoreUnavailable
        If PostgreSQL cannot be reached or goes away; nothing has been written then.
    """
    from psycopg.rows import dict_row

    with translated(problem), connect() as connection, connection.transaction():
        connection.row_factory = dict_row
        if lock:
            lock_table(connection, lock)
        yield connection


@contextmanager
def translated(problem: str = "PostgreSQL refused or went away") -> Iterator[None]:
    """Raise errors of psycopg as `StoreUnavailable`, with the problem and what to do next."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise unavailable(error, problem) from error


def unavailable(
    error: Exception, problem: str = "PostgreSQL refused or went away"
) -> StoreUnavailable:
    """The error to raise for an error of a driver, with what to do next."""
    state = getattr(error, "sqlstate", None) or ""
    remedy = REMEDIES.get(state[:2])
    if remedy is None:
        return StoreUnavailable(
            f"{problem}: {reason_of(error)}. Check that it runs (`make status`)."
        )
    if state in LACKS_TABLES:
        remedy = f"Check the name. Where it is one of this project's own: {MIGRATE}"
    refused = problem.removesuffix(" or went away")
    return StoreUnavailable(f"{refused}: {_said(error)}. {remedy}.")


def _said(error: Exception) -> str:
    """What PostgreSQL said, without the query that a driver repeats."""
    said = reason_of(error)
    found = re.search(r"ERROR:\s*(.*?)(?: LINE \d+: .*)?(?: Query was: .*)?$", said)
    return (found[1] if found else said).removesuffix(".")
