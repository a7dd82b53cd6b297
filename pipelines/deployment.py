"""Deployment: a registered version becomes what the API serves, beside the champion or instead.

python pipelines/deployment.py --model-name income-xgb-v1 --stage production --enable-ab-test
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from configs.command_line import Debug, done, new_app, note, run
from configs.settings import Settings, load_settings
from feature_store.command_line.output import show
from models.connect import deployment_store, experiment_plan, promoter as promoter_of
from models.deployment import Deployment
from models.errors import DeploymentRefused
from models.experiment import RAMP, Mode
from models.promotion import Promoter, Target, as_arm
from models.watch_service import ensure_watch
from monitoring.connect import experiment_store
from monitoring.experiment_plot import save_plot
from monitoring.verdict import Verdict
from pipelines.experiment_controller import Outcome, controller_of, observer_of, watch
from pipelines.experiment_views import history_answer, status_answer, summary
from serving.connect import model_loader
from serving.presence import await_generation, ensure_api, find_api

app = new_app("Deploy a version, alone or in an A/B test; see, ramp, decide and undo the test.")
STAGES: dict[str, Target] = {
    "staging": "Staging",
    "production": "Production",
    "archived": "Archived",
}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Plot = Annotated[
    Path | None, typer.Option("--plot", help="Draw the confidence sequence into this PNG file.")
]
Reason = Annotated[str, typer.Option(help="Kept with the record.")]


@app.callback(invoke_without_command=True)
def deployment(
    context: typer.Context,
    model_name: Annotated[
        str | None, typer.Option(help="A registered version, such as income-xgb-v1.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Where to: staging, production or archived.")
    ] = None,
    enable_ab_test: Annotated[
        bool, typer.Option("--enable-ab-test", help="Test it beside the champion first.")
    ] = False,
    ramp: Annotated[
        bool, typer.Option("--ramp", help="Begin the test small, and widen it step by step.")
    ] = False,
    mode: Annotated[
        Mode | None,
        typer.Option(help="How arms are compared: by traffic, or both score. Default: the best."),
    ] = None,
    reason: Reason = "",
    force: Annotated[
        str | None, typer.Option(help="Why the gates are overruled; kept with name and time.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Deploy a version, alone or in an A/B test; a running API follows within a second."""
    if context.invoked_subcommand is not None:
        return
    target = chosen(model_name, stage)
    if mode is not None and not (enable_ab_test or ramp):
        raise DeploymentRefused("--mode is of a test; give --enable-ab-test or --ramp with it.")
    settings = load_settings()
    promoter = connect(settings)
    if target != "Production":
        to_stage(promoter, str(model_name), target, reason, force)
        ensure_watch(settings)
        return
    if enable_ab_test or ramp:
        record = to_test(settings, promoter, str(model_name), ramp, mode, reason, force)
    else:
        record = to_production(settings, promoter, str(model_name), reason, force)
    take_up(settings, record)


@app.command(epilog="Example: python pipelines/deployment.py status --plot var/test.png")
def status(as_json: AsJson = False, plot: Plot = None, debug: Debug = False) -> None:
    """Show the running A/B test: traffic, evidence, guardrails, and what they call for."""
    look = observer_of(load_settings()).look()
    show(status_answer(look), as_json=as_json)
    if plot is not None:
        save_plot(look.decision(look.verdict, ""), plot)


@app.command(epilog="Examples: … ramp · … ramp --to 0.25")
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


@app.command(epilog="Examples: … decide · … decide --watch 60 --plot var/test.png")
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


@app.command(epilog="Example: python pipelines/deployment.py promote --reason 'the launch'")
def promote(reason: Reason = "", debug: Debug = False) -> None:
    """End the A/B test: the challenger takes all traffic."""
    settings = load_settings()
    outcome = controller_of(settings).overrule(Verdict("promote", reason))
    assert outcome.deployment is not None
    done(f"Challenger promoted: {outcome.deployment.champion.label} takes all traffic")
    follow(settings, outcome)


@app.command(epilog="Example: python pipelines/deployment.py rollback --reason regret")
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


@app.command(epilog="Example: python pipelines/deployment.py override 12345 --arm challenger")
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


@app.command(epilog="Examples: … history · … history --json")
def history(as_json: AsJson = False, plot: Plot = None, debug: Debug = False) -> None:
    """Show every decision about A/B tests, with what it stood on, and every deployment."""
    settings = load_settings()
    decisions = experiment_store(settings).all()
    show(history_answer(decisions, deployment_store(settings).history()), as_json=as_json)
    if plot is not None:
        if not decisions:
            raise DeploymentRefused("There is no decision to draw yet. Make one: … decide")
        save_plot(decisions[-1], plot)


def chosen(model_name: str | None, stage: str | None) -> Target:
    """The stage asked for; refuses options that say too little."""
    if model_name is None or stage is None:
        raise DeploymentRefused("--model-name and --stage belong together; give both.")
    if stage.lower() not in STAGES:
        raise DeploymentRefused(
            f"There is no stage '{stage}'. Expected one of: {', '.join(STAGES)}."
        )
    return STAGES[stage.lower()]


def connect(settings: Settings) -> Promoter:
    """What changes deployments; refuses at once when MLflow does not answer."""
    promoter = promoter_of(settings)
    promoter.registry.refuse_unreachable()
    return promoter


def to_production(
    settings: Settings, promoter: Promoter, label: str, reason: str, force: str | None
) -> Deployment:
    """Verify a version's artifact and give it all traffic; returns what is deployed then."""
    version = promoter.registry.find(label)
    model_loader(settings).load(as_arm(version))
    record = promoter.deploy(version, reason, force)
    if record is None:
        return unchanged(promoter, label)
    done("Model deployed to production")
    return record


def to_test(
    settings: Settings,
    promoter: Promoter,
    label: str,
    is_ramp: bool,
    mode: Mode | None,
    reason: str,
    force: str | None,
) -> Deployment:
    """Verify a version's artifact and test it; returns what is deployed then."""
    version = promoter.registry.find(label)
    model_loader(settings).load(as_arm(version))
    test, plan = settings.deployment.ab_test, experiment_plan(settings, ramp=is_ramp)
    share = plan.ramp[0] if plan.ramp else test.challenger_share
    record = promoter.start_ab_test(version, share, test.salt, reason, force, plan=plan, mode=mode)
    if record is None:
        return unchanged(promoter, label)
    done("Model deployed to production")
    if record.challenger is None:
        note(f"{label} takes all traffic: there was no champion to test it against")
        return record
    done(f"A/B test enabled ({record.challenger.share:.0%} traffic to new model)")
    paired = record.mode == "paired"
    note(f"{record.mode}: {'both models score' if paired else 'one model scores'} every request")
    return record


def unchanged(promoter: Promoter, label: str) -> Deployment:
    """Say that a version is deployed already."""
    current = promoter.store.current()
    assert current is not None
    done(f"{label} is deployed to production already; nothing changed")
    return current


def to_stage(
    promoter: Promoter, label: str, target: Target, reason: str, force: str | None
) -> None:
    """Move a version that does not serve."""
    if promoter.set_stage(promoter.registry.find(label), target, reason, force):
        done(f"Model moved to {target.lower()}")
    else:
        done(f"{label} is in {target.lower()} already; nothing changed")


def follow(settings: Settings, outcome: Outcome) -> None:
    """Wait until the API serves what a decision led to."""
    assert outcome.deployment is not None
    take_up(settings, outcome.deployment)


def take_up(settings: Settings, record: Deployment) -> None:
    """Wait until the API serves a deployment, and say where."""
    ensure_watch(settings)
    url = ensure_api(settings)
    await_generation(url, record.generation)
    done(f"API endpoint: {url}/predict")


if __name__ == "__main__":
    run(app)
