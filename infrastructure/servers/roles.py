"""The roles of a PostgreSQL server and the databases that are theirs, made by an administrator.

It may be repeated: what is there stays, passwords are set, and what an older version left to the
administrator's own role is handed over, so that no part needs that role any more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from configs.errors import reason_of
from infrastructure.errors import ServiceError
from infrastructure.migrations.grants import (
    AIRFLOW,
    API,
    GRANTS,
    MLFLOW,
    OWNER,
    PIPELINES,
    ROLES,
)
from infrastructure.servers.postgres_clients import run_client

MLFLOW_DATABASE = MLFLOW_SCHEMA = "mlflow"
AIRFLOW_DATABASE = AIRFLOW_SCHEMA = "airflow"
DATABASES = {MLFLOW_DATABASE: MLFLOW, AIRFLOW_DATABASE: AIRFLOW}
"""Whose the databases of programs of others are; each has a schema of its name."""
MOVED = "mlflow_moved"
"""What MLflow's schema is called in our database once its rows lie in MLflow's own."""
CONNECT_LIMIT_S = 10
LOCK = "SELECT pg_advisory_lock(hashtext('fti roles'))"
HAND_OVER = f"""
DO $$
DECLARE
    each record;
BEGIN
    FOR each IN
        SELECT relation.oid::regclass AS name FROM pg_class AS relation
        JOIN pg_namespace AS space ON space.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm')
            AND relowner IN (current_user::regrole, to_regrole('{{before}}'))
            AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP
        EXECUTE 'ALTER TABLE ' || each.name || ' OWNER TO {OWNER}';
    END LOOP;
    FOR each IN
        SELECT nspname AS name FROM pg_namespace
        WHERE nspowner IN (current_user::regrole, to_regrole('{{before}}'))
            AND nspname !~ '^pg_'
            AND nspname NOT IN ('information_schema', 'public')
    LOOP
        EXECUTE 'ALTER SCHEMA ' || quote_ident(each.name) || ' OWNER TO {OWNER}';
    END LOOP;
END $$"""
TABLES_OF = (
    "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r' "
    "ORDER BY relname"
)
Connection = psycopg.Connection[Any]


def url_as(url: str, role: str, password: str, database: str | None = None) -> str:
    """Give a URL with another role, and perhaps another database.

    Examples
    --------
    >>> url_as("postgresql://fti:a@db:5432/fti?sslmode=require", "fti_api", "b/c")
    'postgresql://fti_api:b%2Fc@db:5432/fti?sslmode=require'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(
        netloc=f"{role}:{quote(password, safe='')}@{host}",
        path=parts.path if database is None else f"/{database}",
    ).geturl()


def prepare_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Make roles, and databases of MLflow and Airflow; hand over what is the administrator's.

    Parameters
    ----------
    admin_url
        Our database, as a role that may make roles and databases.
    passwords
        By role. A role without one is made all the same, and cannot log in until it has one.

    Raises
    ------
    ServiceError
        If the server cannot be reached or refuses, with what it says.
    """
    try:
        with psycopg.connect(
            admin_url, autocommit=True, connect_timeout=CONNECT_LIMIT_S
        ) as connection:
            connection.execute(LOCK)
            with connection.transaction():
                _make_roles(connection, passwords)
                before = give_database(connection, connection.info.dbname)
                connection.execute(HAND_OVER.replace("{before}", before.replace("'", "''")))
                if _has_tables(connection):
                    connection.execute(f"SET LOCAL ROLE {OWNER}")  # defaults are of who sets them
                    connection.execute(GRANTS)
            for name, role in DATABASES.items():
                _make_database(connection, name, role)
        for name, role in DATABASES.items():
            _make_schema(admin_url, name, role)
    except psycopg.Error as error:
        raise ServiceError(
            f"The roles cannot be made: {reason_of(error)}. It takes the URL of an administrator, "
            "who may make roles and databases."
        ) from error


def move_mlflow(admin_url: str, mlflow_url: str) -> bool:
    """Move what MLflow has kept in a schema of our database into its own; False if there is none.

    Nobody writes meanwhile; the rows are counted on both sides; the schema stays as `MOVED`.

    Raises
    ------
    ServiceError
        If a row is missing, or PostgreSQL refuses; then everything is where it was.
    """
    try:
        with (
            psycopg.connect(admin_url, connect_timeout=CONNECT_LIMIT_S) as source,
            psycopg.connect(mlflow_url, autocommit=True, connect_timeout=CONNECT_LIMIT_S) as target,
        ):
            tables = _tables(source, MLFLOW_SCHEMA)
            if not tables or _tables(target, MLFLOW_SCHEMA):
                return False
            names = sql.SQL(", ").join(sql.Identifier(MLFLOW_SCHEMA, name) for name in tables)
            source.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))
            _copy_schema(admin_url, mlflow_url)
            _refuse_lost_rows(source, target, tables)
            rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
            source.execute(rename.format(sql.Identifier(MLFLOW_SCHEMA), sql.Identifier(MOVED)))
    except psycopg.Error as error:
        raise ServiceError(f"MLflow's records cannot be moved: {reason_of(error)}") from error
    return True


def _make_roles(connection: Connection, passwords: Mapping[str, str]) -> None:
    for role in ROLES:
        name = sql.Identifier(role)
        there = connection.execute("SELECT to_regrole(%s) IS NOT NULL", (role,)).fetchone()
        if there != (True,):
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
        if role in passwords:
            # Servers log such statements: they see a hash.
            secret = connection.pgconn.encrypt_password(
                passwords[role].encode(), role.encode(), b"scram-sha-256"
            )
            login = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
            connection.execute(login.format(name, sql.Literal(secret.decode())))
    connection.execute(f"GRANT {PIPELINES} TO {OWNER}")
    connection.execute(f"GRANT {OWNER}, {MLFLOW}, {AIRFLOW} TO CURRENT_USER")


def give_database(connection: Connection, name: str) -> str:
    """Give a database to the owner of our tables, and let the other roles in.

    Returns
    -------
    str
        Who owned it; it may act as the owner from now on.
    """
    query = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s"
    [before] = connection.execute(query, (name,)).fetchone() or [OWNER]
    if before not in ROLES:  # programs that still use its URL go on
        connection.execute(sql.SQL(f"GRANT {OWNER} TO {{}}").format(sql.Identifier(before)))
    for statement in (
        f"ALTER DATABASE {{}} OWNER TO {OWNER}",
        "REVOKE ALL ON DATABASE {} FROM PUBLIC",
        f"GRANT CONNECT, TEMPORARY ON DATABASE {{}} TO {PIPELINES}",
        f"GRANT CONNECT ON DATABASE {{}} TO {API}",
    ):
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    return str(before)


def _make_database(connection: Connection, name: str, role: str) -> None:
    query = "SELECT FROM pg_database WHERE datname = %s"
    if connection.execute(query, (name,)).fetchone() is None:
        connection.execute(f"CREATE DATABASE {name} OWNER {role}")
        connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")


def _make_schema(admin_url: str, name: str, role: str) -> None:
    url = urlsplit(admin_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(url, connect_timeout=CONNECT_LIMIT_S) as connection:
        there = connection.execute("SELECT to_regnamespace(%s)", (name,)).fetchone()
        if there == (None,):
            connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION {role}")


def _has_tables(connection: Connection) -> bool:
    return connection.execute("SELECT to_regclass('feature_views')").fetchone() != (None,)


def _tables(connection: Connection, schema: str) -> list[str]:
    return [name for (name,) in connection.execute(TABLES_OF, (schema,)).fetchall()]


def _copy_schema(admin_url: str, mlflow_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "mlflow.dump"
        what = ("--format=custom", f"--schema={MLFLOW_SCHEMA}", "--no-owner", "--no-privileges")
        run_client("pg_dump", admin_url, *what, f"--file={dump}")
        with psycopg.connect(mlflow_url, connect_timeout=CONNECT_LIMIT_S) as target:
            target.execute(f"DROP SCHEMA IF EXISTS {MLFLOW_SCHEMA}")  # an empty one
        how = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
        run_client("pg_restore", mlflow_url, *how, str(dump))


def _refuse_lost_rows(source: Connection, target: Connection, tables: list[str]) -> None:
    for name in tables:
        count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(MLFLOW_SCHEMA, name))
        kept, moved = (side.execute(count).fetchone() for side in (source, target))
        if kept != moved:
            raise ServiceError(
                f"MLflow's table {name} has {kept} rows here and {moved} in the database "
                f"{MLFLOW_DATABASE}: nothing was changed here. Drop that database and start again."
            )
