"""PostgreSQL, Valkey and MLflow on this machine, each unless a URL names another one.

Whoever needs a server asks for its URL, and the server is started if it does not run:

    postgres_url(settings)    DATABASE_URL, or a PostgreSQL in var/postgres
    redis_url(settings)       REDIS_URL, or a Valkey in var/valkey
    mlflow_url(settings)      MLFLOW_TRACKING_URI, or an MLflow server on the database above
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.migrations import migrate
from infrastructure.servers import homes, postgres, services, tracking, valkey
from infrastructure.servers.services import Running, Status

if TYPE_CHECKING:
    from configs.settings import Settings

STORES = {"postgres": postgres.service, "valkey": valkey.service}
LAST_TO_STOP = ("mlflow", "valkey", "postgres")  # MLflow needs PostgreSQL to the end


def postgres_url(settings: Settings) -> str:
    """Give the URL of the database; start PostgreSQL if there is none."""
    return url_of("postgres", settings)


def redis_url(settings: Settings) -> str:
    """Give the URL of the online store; start Valkey if there is none."""
    return url_of("valkey", settings)


def mlflow_url(settings: Settings) -> str:
    """Give the URL of the MLflow server; start one, and its database, if there is none."""
    return url_of("mlflow", settings)


def url_of(name: str, settings: Settings) -> str:
    """Give the URL of ``postgres``, ``valkey`` or ``mlflow``; start it if there is none."""
    return given_urls(settings)[name] or _running(name, settings).url


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
            migrate(postgres_url(settings))
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
        service = tracking.service(_var_dir(settings), postgres_url(settings))
        return services.ensure(service, settings)
    # Not restarted when its options have changed: others may be using it.
    found = services.find(name, settings)
    return found or services.ensure(STORES[name](_var_dir(settings)), settings)


def _var_dir(settings: Settings) -> Path:
    return settings.var_dir.absolute()
