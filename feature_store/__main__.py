"""``python -m feature_store``: look at features, their stored values and their versions."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from configs.command_line import Debug, new_app, run

if TYPE_CHECKING:
    from configs.settings import Settings

app = new_app(
    "Look at features, their stored values and their versions. "
    "Every command takes --json; tables become plain text in a pipe."
)

MODEL_VIEW = "user_features"


class Sink(StrEnum):
    """Where simulated events go."""

    postgres = "postgres"


View = Annotated[str, typer.Option(help="The feature view.")]
OptionalView = Annotated[str | None, typer.Argument(help="A feature view; all when not given.")]
UserId = Annotated[int, typer.Option(help="The entity's key.")]
Version = Annotated[
    str | None,
    typer.Option(help="Fingerprint of a stored version, or its beginning; this code's if absent."),
]
Fingerprint = Annotated[str, typer.Argument(help="The version's fingerprint, or its beginning.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list", epilog="Example: python -m feature_store list user_features --json")
def list_command(view: OptionalView = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the features: kind, valid values, unit, protected or not, tags."""
    from configs.output import show
    from feature_store.command_line.definitions import list_features

    show(list_features(view), as_json=as_json)


@app.command(epilog="Examples: … describe user_features · … describe user_features:age_band")
def describe(
    reference: Annotated[str, typer.Argument(help="VIEW, VIEW:FEATURE or FEATURE")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show everything about a view or a feature: meaning, inputs, dependants, layout, versions."""
    from configs.output import show
    from feature_store.command_line.definitions import describe as answer

    show(answer(reference, _settings()), as_json=as_json)


@app.command(epilog="Examples: … stats · … stats --feature age --json")
def stats(
    view: View = MODEL_VIEW,
    feature: Annotated[str | None, typer.Option(help="Only this feature.")] = None,
    version: Version = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show null and unseen rates, moments, quantiles, top categories and freshness."""
    from datetime import UTC, datetime

    from configs.output import show
    from feature_store.command_line.statistics import feature_statistics

    answer = feature_statistics(view, feature, version, _settings(), datetime.now(UTC))
    show(answer, as_json=as_json)


@app.command(epilog="Example: python -m feature_store get --user-id 12345")
def get(
    user_id: UserId,
    view: View = MODEL_VIEW,
    version: Version = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the online row of an entity: values, times, age, version."""
    from datetime import UTC, datetime

    from configs.output import show
    from feature_store.command_line.entities import get_online

    show(get_online(view, user_id, version, _settings(), datetime.now(UTC)), as_json=as_json)


@app.command(epilog="Example: python -m feature_store history --user-id 12345")
def history(
    user_id: UserId,
    view: View = MODEL_VIEW,
    version: Version = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show every offline row of an entity and what changed, or every event and what followed."""
    from configs.output import show
    from feature_store.command_line.entities import history as answer

    show(answer(view, user_id, version, _settings()), as_json=as_json)


@app.command(epilog="Examples: … validate · … validate --sample 1000; exits with 1 on findings")
def validate(
    view: View = MODEL_VIEW,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Compare about so many entities online; else all.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check stored rows: ranges, categories, digests, and online against offline."""
    from configs.output import show
    from feature_store.command_line.checks import validate as check

    answer, is_well = check(view, sample, _settings())
    show(answer, as_json=as_json)
    if not is_well:
        raise typer.Exit(1)


@app.command(epilog="Example: python -m feature_store versions user_features")
def versions(
    view: Annotated[str, typer.Argument(help="A feature view.")] = MODEL_VIEW,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the stored versions of a view: state, times, readers, how they differ from this code."""
    from configs.output import show
    from feature_store.command_line.versions import list_versions

    show(list_versions(view, _settings()), as_json=as_json)


@app.command(epilog="Example: python -m feature_store switch-version user_features 3f2a91c0")
def switch_version(
    view: Annotated[str, typer.Argument(help="A feature view.")],
    fingerprint: Fingerprint,
    max_missing_share: Annotated[
        float, typer.Option(help="Entities of the current version that may lack a row.")
    ] = 0.01,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a stored version the current one; also the way back to an older one."""
    from configs.output import show
    from feature_store.command_line.versions import switch_version as answer

    show(answer(view, fingerprint, _settings(), max_missing_share), as_json=as_json)


@app.command(epilog="Example: python -m feature_store drop-version user_features 3f2a91c0")
def drop_version(
    view: Annotated[str, typer.Argument(help="A feature view.")],
    fingerprint: Fingerprint,
    yes: Yes = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Delete a version from both stores; not the current one, nor one a deployed model reads."""
    from configs.output import show
    from feature_store.command_line.versions import drop_version as answer

    if not yes:
        typer.confirm(f"Delete version {fingerprint} of {view}?", abort=True, err=True)
    show(answer(view, fingerprint, _settings()), as_json=as_json)


@app.command(epilog="Examples: … append-events events.jsonl · … append-events - < events.jsonl")
def append_events(
    file: Annotated[typer.FileText, typer.Argument(help="One event a line, as JSON; - for stdin.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Append events to the stream; whether they can be applied is checked by its consumers."""
    from configs.output import show
    from feature_store.command_line.streams import append_events as answer

    show(answer(file, _settings()), as_json=as_json)


@app.command(epilog="Examples: … dead-letters --json · … dead-letters --replay all")
def dead_letters(
    replay: Annotated[
        str | None, typer.Option(help="Append this one, or all, to the events again.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the newest first.")] = 20,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the events that could not be applied, with the reason; or try them again."""
    from configs.output import show
    from feature_store.command_line import streams

    settings = _settings()
    answer = streams.replay(replay, settings) if replay else streams.dead_letters(limit, settings)
    show(answer, as_json=as_json)


@app.command(epilog="Example: python -m feature_store stream-status")
def stream_status(as_json: AsJson = False, debug: Debug = False) -> None:
    """Show the consumers of the stream, its backlog and its dead letters."""
    from datetime import UTC, datetime

    from configs.output import show
    from feature_store.command_line.streams import stream_status as answer

    show(answer(_settings(), datetime.now(UTC)), as_json=as_json)


@app.command(
    epilog="Examples: … rebuild user_activity · … rebuild user_activity --start 2026-01-01"
)
def rebuild(
    view: Annotated[str, typer.Argument(help="A feature view.")] = MODEL_VIEW,
    start: Annotated[str | None, typer.Option(help="Only users with an event since.")] = None,
    end: Annotated[str | None, typer.Option(help="Only users with an event before.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write all online rows anew out of PostgreSQL: after Redis was lost, or a view was changed."""
    from configs.output import show
    from configs.section import utc_time
    from feature_store.command_line.versions import rebuild as answer

    since, before = (utc_time(each) if each else None for each in (start, end))
    show(answer(view, since, before, _settings()), as_json=as_json)


@app.command(
    epilog="Example: python -m feature_store simulate --users 1000 --days 40 --to postgres"
)
def simulate(
    users: Annotated[int, typer.Option(min=1, help="How many users.")] = 1000,
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same events.")] = 7,
    end: Annotated[
        str | None, typer.Option(help="When the last day ends; today's midnight if absent.")
    ] = None,
    to: Annotated[
        Sink | None, typer.Option(help="Store the events; otherwise they are only counted.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make synthetic events of users who do not exist: for tests, benchmarks and a first look."""
    from datetime import UTC, datetime

    from configs.output import show
    from configs.section import utc_time
    from feature_store.command_line.simulation import simulated

    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = utc_time(end) if end else midnight
    show(simulated(users, days, seed, last, _settings() if to else None), as_json=as_json)


def _settings() -> Settings:
    from configs.settings import load_settings

    return load_settings()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        sys.argv = [sys.argv[0], *sys.argv[2:], "--json"]
    run(app)
