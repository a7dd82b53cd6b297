"""Deployment: a registered version becomes what the API serves, beside the champion or instead.

python pipelines/deployment.py --model-name income-xgb-v1 --stage production --enable-ab-test
"""

from __future__ import annotations

from typing import Annotated

import typer

from configs.command_line import Debug, done, new_app, note, run
from configs.settings import Settings, load_settings
from models.connect import promoter as promoter_of
from models.deployment import Deployment
from models.errors import DeploymentRefused
from models.promotion import Promoter, Target, as_arm
from models.watch_service import ensure_watch
from serving.connect import model_loader
from serving.presence import await_generation, ensure_api

app = new_app()
STAGES: dict[str, Target] = {
    "staging": "Staging",
    "production": "Production",
    "archived": "Archived",
}


@app.command()
def deployment(
    model_name: Annotated[
        str | None, typer.Option(help="A registered version, such as income-xgb-v1.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Where to: staging, production or archived.")
    ] = None,
    enable_ab_test: Annotated[
        bool, typer.Option("--enable-ab-test", help="Test it beside the champion first.")
    ] = False,
    promote_challenger: Annotated[
        bool, typer.Option("--promote-challenger", help="End the A/B test: the challenger wins.")
    ] = False,
    stop_ab_test: Annotated[
        bool, typer.Option("--stop-ab-test", help="End the A/B test: the champion stays.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Undo the newest deployment.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Kept with the record.")] = "",
    force: Annotated[
        str | None, typer.Option(help="Why the gates are overruled; kept with name and time.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Deploy a version, or change what is deployed; a running API follows within a second."""
    changes = {
        "--promote-challenger": promote_challenger,
        "--stop-ab-test": stop_ab_test,
        "--rollback": rollback,
    }
    target = chosen(model_name, stage, [option for option, given in changes.items() if given])
    settings = load_settings()
    promoter = connect(settings)
    if promote_challenger:
        record = promoter.promote_challenger(reason)
        done(f"Challenger promoted: {record.champion.label} takes all traffic")
    elif stop_ab_test:
        record = promoter.stop_ab_test(reason)
        done(f"A/B test stopped: {record.champion.label} takes all traffic")
    elif rollback:
        record = promoter.roll_back(reason)
        done(f"Rolled back: {record.champion.label} takes all traffic")
    elif target == "Production":
        record = to_production(settings, promoter, str(model_name), enable_ab_test, reason, force)
    else:
        to_stage(promoter, str(model_name), target, reason, force)
        ensure_watch(settings)
        return
    ensure_watch(settings)
    url = ensure_api(settings)
    await_generation(url, record.generation)
    done(f"API endpoint: {url}/predict")


def chosen(model_name: str | None, stage: str | None, changes: list[str]) -> Target:
    """The stage asked for; refuses options that say too little or too much."""
    if len(changes) + (model_name is not None or stage is not None) != 1:
        asked = ", ".join(changes) or "nothing"
        raise DeploymentRefused(
            f"Asked for {asked}; expected --model-name with --stage, or one of "
            "--promote-challenger, --stop-ab-test and --rollback."
        )
    if changes:
        return "Production"
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
    settings: Settings,
    promoter: Promoter,
    label: str,
    is_test: bool,
    reason: str,
    force: str | None,
) -> Deployment:
    """Verify a version's artifact and deploy it; returns what is deployed then."""
    version = promoter.registry.find(label)
    model_loader(settings).load(as_arm(version))
    test = settings.deployment.ab_test
    before = promoter.store.current()
    record = (
        promoter.start_ab_test(version, test.challenger_share, test.salt, reason, force)
        if is_test
        else promoter.deploy(version, reason, force)
    )
    if record is None:
        assert before is not None
        done(f"{label} is deployed to production already; nothing changed")
        return before
    done("Model deployed to production")
    if record.challenger is not None:
        done(f"A/B test enabled ({record.challenger.share:.0%} traffic to new model)")
    elif is_test:
        note(f"{label} takes all traffic: there was no champion to test it against")
    return record


def to_stage(
    promoter: Promoter, label: str, target: Target, reason: str, force: str | None
) -> None:
    """Move a version that does not serve."""
    if promoter.set_stage(promoter.registry.find(label), target, reason, force):
        done(f"Model moved to {target.lower()}")
    else:
        done(f"{label} is in {target.lower()} already; nothing changed")


if __name__ == "__main__":
    run(app)
