"""``python -m infrastructure``: start, stop and look at the servers on this machine."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from configs.command_line import Debug, new_app, run
from configs.settings import load_settings
from infrastructure import embedded
from infrastructure.operations.database_commands import commands

app = new_app(
    "Start, stop and look at PostgreSQL, Valkey and MLflow on this machine. "
    "DATABASE_URL, REDIS_URL and MLFLOW_TRACKING_URI each replace one of them."
)
app.add_typer(commands)


@app.command()
def up(debug: Debug = False) -> None:
    """Start the servers that do not run yet, and wait until they are ready."""
    any_started, begin = False, time.monotonic()
    for name, running in embedded.up(load_settings()):
        if running is None:
            typer.echo(f"✓ {name}: elsewhere, as configured")
            continue
        took = f"started in {time.monotonic() - begin:.1f} s" if running.started else "runs already"
        typer.echo(f"✓ {name}: {took}: {_without_password(running.url)} (log: {running.log_path})")
        any_started, begin = any_started or running.started, time.monotonic()
    if not any_started:
        typer.echo("Nothing had to be started.")


@app.command()
def down(debug: Debug = False) -> None:
    """Stop everything that was started here, the API included; data stays."""
    any_stopped = False
    for stopped in embedded.down(load_settings()):
        typer.echo(f"✓ {stopped.name} stopped (pid {stopped.pid}, port {stopped.port})")
        any_stopped = True
    if not any_stopped:
        typer.echo("Nothing runs.")


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; URLs then include passwords.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Show what runs where, and where its log is."""
    found = embedded.status(load_settings())
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2, default=str))
        return
    rows: list[tuple[str, ...]] = [("name", "state", "pid", "port", "url", "log")]
    for each in found:
        url = each.url and _without_password(each.url)
        values = (each.name, each.state, each.pid, each.port, url, each.log_path)
        rows.append(tuple("" if value is None else str(value) for value in values))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(map(str.ljust, row, widths)).rstrip())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def airflow(context: typer.Context, debug: Debug = False) -> None:
    """Start Airflow with the project's DAGs, and say how to enter; `down` stops it.

    What follows is a command of Airflow's own, run on the local records: `airflow dags list`,
    `airflow -- backfill create --help`.
    """
    from infrastructure.servers.airflow_service import (
        USER,
        become_airflow,
        ensure_airflow,
        password,
    )

    settings = load_settings()
    database_url = embedded.airflow_database_url(settings) or embedded.postgres_url(settings)
    if context.args:
        become_airflow(settings, database_url, context.args)
    running = ensure_airflow(settings, database_url)
    typer.echo(f"✓ airflow: {running.url} (user {USER}, password {password(settings)})")
    typer.echo(f"  log: {running.log_path}")
    typer.echo("  DAGs are paused until you switch them on there.")


@app.command()
def url(
    name: Annotated[str, typer.Argument(help="postgres, valkey or mlflow")],
    role: Annotated[
        Literal["pipelines", "api", "owner"] | None,
        typer.Option(help="As whom, for the PostgreSQL of this machine. Default: pipelines."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the URL of a server, password included; start it if it does not run."""
    settings = load_settings() if role is None else load_settings(database_role=role)
    known = embedded.given_urls(settings)
    if name not in known:
        raise typer.BadParameter(f"{name!r} is not a server; expected one of {', '.join(known)}.")
    typer.echo(embedded.url_of(name, settings))


@app.command()
def delete(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, debug: Debug = False
) -> None:
    """Stop everything and delete the data, records and logs of the servers."""
    settings = load_settings()
    if not yes:
        typer.confirm(f"Delete the data of all servers in {settings.var_dir}?", abort=True)
    embedded.delete(settings)
    typer.echo(f"✓ deleted the servers' data in {settings.var_dir}")


def _without_password(url: str) -> str:
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


if __name__ == "__main__":
    run(app)
