"""Deployment: a registered version becomes what the API serves, beside the champion or instead.

python pipelines/deployment.py --model-name income-xgb-v1 --stage production --enable-ab-test
"""

from __future__ import annotations

from typing import Annotated

import typer

from configs.command_line import Debug, done, new_app, note, run
from configs.settings import Settings, load_settings
from models.connect import experiment_plan
from models.deployment.plan import Mode
from models.deployment.promotion import Promoter, Target, as_arm
from models.deployment.record import Deployment
from models.errors import DeploymentRefused
from models.lifecycle.watch import ensure_watch
from models.registry.versions import ModelVersion
from pipelines.experiments.commands import Reason, commands, connect, take_up
from serving.connect import model_loader

app = new_app("Deploy a version, alone or in an A/B test; see, ramp, decide and undo the test.")
app.add_typer(commands)
STAGES: dict[str, Target] = {
    "staging": "Staging",
    "production": "Production",
    "archived": "Archived",
}


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
    target = parse_target(model_name, stage)
    if mode is not None and not (enable_ab_test or ramp):
        raise DeploymentRefused("--mode is of a test; give --enable-ab-test or --ramp with it.")
    settings = load_settings()
    promoter = connect(settings)
    version = promoter.registry.find(str(model_name))
    if target != "Production":
        move(promoter, version, target, reason, force)
        ensure_watch(settings)
        return
    model_loader(settings).load(as_arm(version))  # checks its artifact
    if enable_ab_test or ramp:
        record = start_test(settings, promoter, version, ramp, mode, reason, force)
    else:
        record = promoter.deploy(version, reason, force)
    report(record, version.label, is_test=enable_ab_test or ramp)
    deployed = record or promoter.store.current()
    assert deployed is not None
    take_up(settings, deployed)


def parse_target(model_name: str | None, stage: str | None) -> Target:
    """The stage asked for; refuses options that say too little."""
    if model_name is None or stage is None:
        raise DeploymentRefused("--model-name and --stage belong together; give both.")
    if stage.lower() not in STAGES:
        raise DeploymentRefused(
            f"There is no stage '{stage}'. Expected one of: {', '.join(STAGES)}."
        )
    return STAGES[stage.lower()]


def start_test(
    settings: Settings,
    promoter: Promoter,
    version: ModelVersion,
    is_ramp: bool,
    mode: Mode | None,
    reason: str,
    force: str | None,
) -> Deployment | None:
    """Test a version beside the champion; None when it is deployed already."""
    test, plan = settings.deployment.ab_test, experiment_plan(settings, ramp=is_ramp)
    share = plan.ramp[0] if plan.ramp else test.challenger_share
    return promoter.start_ab_test(version, share, test.salt, reason, force, plan=plan, mode=mode)


def report(record: Deployment | None, label: str, *, is_test: bool) -> None:
    """Say what came of a deployment."""
    if record is None:
        done(f"{label} is deployed to production already; nothing changed")
        return
    done("Model deployed to production")
    if record.challenger is not None and is_test:
        done(f"A/B test enabled ({record.challenger.share:.0%} traffic to new model)")
        scores = "both models score" if record.mode == "paired" else "one model scores"
        note(f"{record.mode}: {scores} every request")
    elif is_test:
        note(f"{label} takes all traffic: there was no champion to test it against")


def move(
    promoter: Promoter, version: ModelVersion, target: Target, reason: str, force: str | None
) -> None:
    """Move a version that does not serve."""
    if promoter.set_stage(version, target, reason, force):
        done(f"Model moved to {target.lower()}")
    else:
        done(f"{version.label} is in {target.lower()} already; nothing changed")


if __name__ == "__main__":
    run(app)
