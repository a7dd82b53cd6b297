"""``python -m models``: look at versions and their history, check them, judge them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from configs.command_line import Debug, new_app, run

if TYPE_CHECKING:
    from configs.settings import Settings

app = new_app(
    "Look at the versions of the registered model and their history, check them, judge them. "
    "Every command takes --json; tables become plain text in a pipe."
)

Version = Annotated[str, typer.Argument(help="A version, such as income-xgb-v3.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command("list", epilog="Example: python -m models list --json")
def list_command(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the versions: stage, aliases, gates, metrics, age."""
    from datetime import UTC, datetime

    from configs.output import show as print_answer
    from models.command_line.versions import list_versions

    print_answer(list_versions(_settings(), datetime.now(UTC)), as_json=as_json)


@app.command(epilog="Example: python -m models show income-xgb-v3")
def show(version: Version, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show everything about a version: lineage, metrics, gates, files, deployments."""
    from configs.output import show as print_answer
    from models.command_line.versions import show_version

    print_answer(show_version(version, _settings()), as_json=as_json)


@app.command(epilog="Example: python -m models compare income-xgb-v2 income-xgb-v3")
def compare(first: Version, second: Version, as_json: AsJson = False, debug: Debug = False) -> None:
    """Compare two versions: metrics on the same rows with intervals, settings, packages."""
    from configs.output import show as print_answer
    from models.command_line.comparing import compare_versions

    print_answer(compare_versions(first, second, _settings()), as_json=as_json)


@app.command(epilog="Examples: … history · … history --as-of 2026-03-01")
def history(
    as_of: Annotated[
        str | None, typer.Option(help="What was in production at this time (UTC).")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show deployments, stage changes and overruled gates; or what served at a time."""
    from configs.output import show as print_answer
    from configs.section import utc_time
    from models.command_line.history import show_history

    moment = utc_time(as_of) if as_of else None
    print_answer(show_history(_settings(), moment), as_json=as_json)


@app.command(epilog="Example: python -m models verify; exits with 1 on findings")
def verify(as_json: AsJson = False, debug: Debug = False) -> None:
    """Check artifacts by hash and example, and that registry, aliases and records agree."""
    from configs.output import show as print_answer
    from models.command_line.verifying import verify as check

    answer, is_well = check(_settings())
    print_answer(answer, as_json=as_json)
    if not is_well:
        raise typer.Exit(1)


@app.command(epilog="Example: python -m models judge income-xgb-v3; exits with 1 if it fails")
def judge(version: Version, as_json: AsJson = False, debug: Debug = False) -> None:
    """Judge a version by the gates, against what serves now; the decision is kept."""
    from configs.output import show as print_answer
    from models.command_line.verifying import judge_version

    answer, has_passed = judge_version(version, _settings())
    print_answer(answer, as_json=as_json)
    if not has_passed:
        raise typer.Exit(1)


@app.command(epilog="pipelines/deployment.py starts it in the background")
def watch(
    port: Annotated[int, typer.Option(help="Where /health answers.")] = 8090,
    debug: Debug = False,
) -> None:
    """Adopt what MLflow clients change in the registry, through the gates; or put it back."""
    from models.connect import registry_watch
    from models.lifecycle.watch import run_watch

    settings = _settings()
    run_watch(registry_watch(settings), settings.deployment.registry_poll_ms / 1000, port)


def _settings() -> Settings:
    from configs.settings import load_settings

    return load_settings()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        sys.argv = [sys.argv[0], *sys.argv[2:], "--json"]
    run(app)
