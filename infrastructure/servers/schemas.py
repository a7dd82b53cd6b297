"""The schema that a program of others has for itself: made, and told to SQLAlchemy."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from configs.errors import reason_of
from infrastructure.errors import ServiceError


def sqlalchemy_url(database_url: str, driver: str, schema: str) -> str:
    """Give a PostgreSQL URL in SQLAlchemy's form, with a schema as search path.

    Parameters
    ----------
    driver
        One on top of libpq, such as ``psycopg`` or ``psycopg2``: others know no ``options``.

    Examples
    --------
    >>> sqlalchemy_url("postgres://me:pw@db:5432/fti?sslmode=require", "psycopg", "mlflow")
    'postgresql+psycopg://me:pw@db:5432/fti?sslmode=require&options=-csearch_path%3Dmlflow'
    """
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -csearch_path={schema}".strip()
    return parts._replace(
        scheme=f"postgresql+{driver}", query=urlencode(query, quote_via=quote)
    ).geturl()


def ensure_schema(database_url: str, schema: str, program: str) -> None:
    """Make a schema unless it is there.

    Raises
    ------
    ServiceError
        If the database cannot be reached, or its role may not make one.
    """
    import psycopg

    try:
        with psycopg.connect(database_url, connect_timeout=10) as connection:
            there = connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone()
            if there == (None,):
                connection.execute(f"CREATE SCHEMA {schema}")
    except psycopg.Error as error:
        raise ServiceError(
            f"Cannot use the database of {program}: {reason_of(error)}. Check "
            f"{program.upper()}_DATABASE_URL, or DATABASE_URL where {program} has none of its own."
        ) from error
