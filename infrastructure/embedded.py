"""PostgreSQL, Valkey and MLflow on this machine, each unless a URL names another one.

Whoever needs a server asks for its URL, and the server is started if it does not run:

    postgres_url(settings)    DATABASE_URL, or a PostgreSQL in var/postgres, as database_role
    redis_url(settings)       REDIS_URL, or a Valkey in var/valkey
    mlflow_url(settings)      MLFLOW_TRACKING_URI, or an MLflow server on the database above
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.migrations import migrate
from infrastructure.servers import homes, postgres, records, services, tracking, valkey
from infrastructure.servers.launch import Service
from infrastructure.servers.roles import AIRFLOW_DATABASE, DATABASES, MLFLOW_DATABASE
from infrastructure.servers.services import Running, Status

if TYPE_CHECKING:
    from configs.settings import Settings

STORES = {"postgres": postgres.service, "valkey": valkey.service}
LAST_TO_STOP = ("mlflow", "valkey", "postgres")  # MLflow needs PostgreSQL to the end


def postgres_url(settings: Settings) -> str:
    """Give the URL of the database, for the role of this program; start PostgreSQL if need be."""
    return url_of("postgres", settings)


def admin_url(settings: Settings) -> str:
    """Give the URL of the database for an administrator, who makes roles and databases.

    No part of the system runs as that role.
    """
    return settings.database_url or _running("postgres", settings).url


def mlflow_database_url(settings: Settings) -> str | None:
    """Give the URL of MLflow's own database; None where it keeps its records beside ours."""
    return _own_database_url(MLFLOW_DATABASE, settings.mlflow_database_url, settings)


def airflow_database_url(settings: Settings) -> str | None:
    """Give the URL of Airflow's own database; None where it keeps its records beside ours."""
    return _own_database_url(AIRFLOW_DATABASE, settings.airflow_database_url, settings)


def own_databases(settings: Settings) -> dict[str, str]:
    """Give the URLs of the databases that are not ours, by name, for backups."""
    found = {
        MLFLOW_DATABASE: mlflow_database_url(settings),
        AIRFLOW_DATABASE: airflow_database_url(settings),
    }
    return {name: url for name, url in found.items() if url is not None}


def redis_url(settings: Settings) -> str:
    """Give the URL of the online store; start Valkey if there is none."""
    return url_of("valkey", settings)


def mlflow_url(settings: Settings) -> str:
    """Give the URL of the MLflow server; start one, and its database, if there is none."""
    return url_of("mlflow", settings)


def url_of(name: str, settings: Settings) -> str:
    """Give the URL of ``postgres``, ``valkey`` or ``mlflow``; start it if there is none."""
    given = given_urls(settings)[name]
    if given:
        return given
    url = _running(name, settings).url
    if name != "postgres":
        return url
    return postgres.url_of_role(_var_dir(settings), url, f"fti_{settings.database_role}")


def as_owner(settings: Settings) -> Settings:
    """Give the settings of a program that owns the tables: migrations, partitions, backups."""
    return settings.model_copy(update={"database_role": "owner"})


def given_urls(settings: Settings) -> dict[str, str | None]:
    """Give the URLs of servers elsewhere by name; None for those that run on this machine."""
    return {
        "postgres": settings.database_url,
        "valkey": settings.redis_url,
        "mlflow": settings.mlflow_tracking_uri,
    }


def up(settings: Settings) -> Iterator[tuple[str, Running | None]]:
    """Start every server that runs not yet; yield each name when it is ready.

    The tables are brought forward, those of a database elsewhere too.

    Yields
    ------
    tuple of str and Running or None
        None where a URL names a server elsewhere.
    """
    for name, url in given_urls(settings).items():
        running = None if url else _running(name, settings)
        if name == "postgres":
            migrate(postgres_url(as_owner(settings)))
        yield name, running


def down(settings: Settings) -> Iterator[Status]:
    """Stop all services that were started here, the API and the like first; yield each."""
    return services.stop_all(settings, LAST_TO_STOP)


def status(settings: Settings) -> list[Status]:
    """Say how the three servers and all other services are."""
    found = {each.name: each for each in services.status(settings)}
    given = given_urls(settings)
    for name, url in given.items():
        if url:
            found[name] = Status(name, "elsewhere", None, None, url, None)
        found.setdefault(name, Status(name, "stopped", None, None, None, None))
    return [*(found.pop(name) for name in given), *found.values()]


def delete(settings: Settings) -> None:
    """Stop everything and delete the servers' data, records and logs."""
    for _ in down(settings):
        pass
    for name in STORES:
        homes.delete_home(_var_dir(settings), name)
    for name in ("mlflow", "airflow", "log", "run"):
        shutil.rmtree(_var_dir(settings) / name, ignore_errors=True)


def _running(name: str, settings: Settings) -> Running:
    if name == "mlflow":
        return services.ensure(_tracking(settings), settings)
    # Not restarted when its options have changed: others may be using it.
    found = services.find(name, settings)
    if found is None:
        return services.ensure(STORES[name](_var_dir(settings)), settings)
    if name == "postgres" and not postgres.is_prepared(_var_dir(settings)):
        with records.lock(_var_dir(settings), name):  # an older version has started it
            postgres.prepare(_var_dir(settings), found.url)
    return found


def _own_database_url(name: str, given: str | None, settings: Settings) -> str | None:
    if given or settings.database_url:
        return given
    running = _running("postgres", settings)
    return postgres.url_of_role(_var_dir(settings), running.url, DATABASES[name], name)


def _tracking(settings: Settings) -> Service:
    own = mlflow_database_url(settings)
    if own is None:
        return tracking.service(_var_dir(settings), postgres_url(settings))
    before = None if settings.mlflow_database_url else admin_url(settings)
    return tracking.service(_var_dir(settings), own, before)


def _var_dir(settings: Settings) -> Path:
    return settings.var_dir.absolute()
