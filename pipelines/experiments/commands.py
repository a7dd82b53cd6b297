"""The commands about an A/B test: see it, widen it, decide it, end it, look back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from configs.command_line import AsJson, Debug, done, note
from configs.output import show
from configs.settings import Settings, load_settings
from models.connect import deployment_store, promoter as promoter_of
from models.deployment.plan import RAMP
from models.deployment.promotion import Promoter
from models.deployment.record import Deployment
from models.errors import DeploymentRefused
from models.lifecycle.watch import ensure_watch
from monitoring.connect import experiment_store
from monitoring.experiments.plot import save_plot
from monitoring.experiments.verdict import Verdict
from pipelines.experiments.controller import Outcome, controller_of, observer_of, watch
from pipelines.experiments.views import history_answer, status_answer, summary
from serving.process.presence import await_deployment, ensure_api, find_api

commands = typer.Typer()
Plot = Annotated[
    Path | None, typer.Option("--plot", help="Draw the confidence sequence into this PNG file.")
]
Reason = Annotated[str, typer.Option(help="Kept with the record.")]


@commands.command(epilog="Example: python pipelines/deployment.py status --plot var/test.png")
def status(as_json: AsJson = False, plot: Plot = None, debug: Debug = False) -> None:
    """Show the running A/B test: traffic, evidence, guardrails, and what they call for."""
    look = observer_of(load_settings()).look()
    show(status_answer(look), as_json=as_json)
    if plot is not None:
        save_plot(look.decision(look.verdict, ""), plot)


@commands.command(epilog="Examples: … ramp · … ramp --to 0.25")
def ramp(
    to: Annotated[
        float | None, typer.Option(help="Share of the challenger. Default: the next step.")
    ] = None,
    reason: Reason = "",
    debug: Debug = False,
) -> None:
    """Give the challenger more traffic; nobody whom it answers moves back."""
    settings = load_settings()
    controller = controller_of(settings)
    present = controller.observer.look().phases.shares[-1]
    share = to or next((step for step in RAMP if step > present), None)
    if share is None:
        raise DeploymentRefused(
            f"The challenger has {present:.0%} already, the last step. Give more with --to, or "
            "promote it."
        )
    outcome = controller.overrule(Verdict("ramp", reason, share))
    done(f"Challenger widened to {share:.0%} of the traffic")
    follow(settings, outcome)


@commands.command(epilog="Examples: … decide · … decide --watch 60 --plot var/test.png")
def decide(
    watch_s: Annotated[
        float | None,
        typer.Option("--watch", min=0.1, help="Go on every so many seconds until it is decided."),
    ] = None,
    plot: Plot = None,
    debug: Debug = False,
) -> None:
    """Decide by the evidence and act: roll back, promote, widen, or go on."""
    settings = load_settings()
    controller = controller_of(settings)
    for outcome in watch(controller, watch_s):
        if outcome is None:
            note("another controller is deciding; this one waits")
            continue
        done(summary(outcome.decision))
        if plot is not None:
            save_plot(outcome.decision, plot)
        if outcome.deployment is not None and find_api(settings.var_dir) is not None:
            follow(settings, outcome)


@commands.command(epilog="Example: python pipelines/deployment.py promote --reason 'the launch'")
def promote(reason: Reason = "", debug: Debug = False) -> None:
    """End the A/B test: the challenger takes all traffic."""
    settings = load_settings()
    outcome = controller_of(settings).overrule(Verdict("promote", reason))
    assert outcome.deployment is not None
    done(f"Challenger promoted: {outcome.deployment.champion.label} takes all traffic")
    follow(settings, outcome)


@commands.command(epilog="Example: python pipelines/deployment.py rollback --reason regret")
def rollback(reason: Reason = "", debug: Debug = False) -> None:
    """Undo the newest deployment: end the A/B test, else return to the champion before."""
    settings = load_settings()
    promoter = connect(settings)
    current = promoter.store.current()
    if current is not None and current.challenger is not None:
        outcome = controller_of(settings).overrule(Verdict("rollback", reason))
        assert outcome.deployment is not None
        record = outcome.deployment
    else:
        record = promoter.roll_back(reason)
    done(f"Rolled back: {record.champion.label} takes all traffic")
    take_up(settings, record)


@commands.command(epilog="Example: python pipelines/deployment.py override 12345 --arm challenger")
def override(
    unit: Annotated[str, typer.Argument(help="A user's key, or a caller's unit_id.")],
    arm: Annotated[
        Literal["champion", "challenger", "none"], typer.Option(help="none: by its bucket again.")
    ] = "challenger",
    reason: Reason = "",
    debug: Debug = False,
) -> None:
    """Let a unit always have an arm of the A/B test; it is left out of the evidence."""
    settings = load_settings()
    record = connect(settings).override(unit, None if arm == "none" else arm, reason)
    done(f"Unit {unit}: {'its own bucket decides' if arm == 'none' else f'always the {arm}'}")
    take_up(settings, record)


@commands.command(epilog="Examples: … history · … history --json")
def history(as_json: AsJson = False, plot: Plot = None, debug: Debug = False) -> None:
    """Show every decision about A/B tests, with what it stood on, and every deployment."""
    settings = load_settings()
    decisions = experiment_store(settings).all()
    show(history_answer(decisions, deployment_store(settings).history()), as_json=as_json)
    if plot is not None:
        if not decisions:
            raise DeploymentRefused("There is no decision to draw yet. Make one: … decide")
        save_plot(decisions[-1], plot)


def connect(settings: Settings) -> Promoter:
    """What changes deployments; refuses at once when MLflow does not answer."""
    promoter = promoter_of(settings)
    promoter.registry.refuse_unreachable()
    return promoter


def follow(settings: Settings, outcome: Outcome) -> None:
    """Wait until the API serves what a decision led to."""
    assert outcome.deployment is not None
    take_up(settings, outcome.deployment)


def take_up(settings: Settings, record: Deployment) -> None:
    """Wait until the API serves a deployment, and say where, and what it serves.

    Raises
    ------
    ServingError
        If it does not take it up, or is the API of other records.
    """
    ensure_watch(settings)
    url = ensure_api(settings)
    with closing(deployment_store(settings)) as store:
        found = await_deployment(url, record, store.recorded)
    note(f"{found}: deployment {found.generation}")
    done(f"API endpoint: {url}/predict")
