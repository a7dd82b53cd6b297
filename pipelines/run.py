"""Runs pipelines by name, or all in order: for people, cron, Kubernetes and Airflow.

python pipelines/run.py all
python pipelines/run.py training
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import Annotated

import typer

from configs.command_line import Debug, done, new_app, run
from configs.errors import SettingsError
from configs.section import utc_time
from configs.settings import Settings, load_settings
from models.connect import current_deployment, decision_store, deployment_store, model_registry
from monitoring.connect import retraining_store
from monitoring.retraining import trigger_training_pipeline
from monitoring.retraining_requests import Withheld
from pipelines.demo import command, find_after
from pipelines.retraining import retrain as act

EXPERIMENT = "experiment"
app = new_app(
    "Run pipelines by name, or all in order, as cron, Kubernetes CronJobs and Airflow do. Each can "
    "be run again at any time: what is done already is not done twice."
)


@app.command("all")
def everything(debug: Debug = False) -> None:
    """Features, training, batch and monitoring, in this order; ends at the first that fails."""
    features()
    training()
    batch()
    monitoring()


@app.command()
def features(
    start: Annotated[
        datetime | None, typer.Option(parser=utc_time, help="First event time to compute anew.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(parser=utc_time, help="Event time before which it ends.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Bring what is new in the source into both stores; with --start and --end, a range anew."""
    if (start is None) != (end is None):
        raise SettingsError("--start and --end belong together; give both, or neither.")
    if start is None or end is None:
        command("pipelines/feature_pipeline.py", "--mode", "incremental")
        return
    span = ["--start", start.isoformat(), "--end", end.isoformat()]
    command("pipelines/feature_pipeline.py", "--mode", "backfill", *span)


@app.command()
def training(debug: Debug = False) -> None:
    """Train and judge a model, and deploy it: beside the champion, in an A/B test.

    An open request of monitoring is carried out instead, if there is one. A version of the same
    data, settings and code is not trained again, and one that was tested before is not entered
    again. What the gates refuse stays in the registry.
    """
    settings = load_settings()
    if retraining_store(settings).open() is not None:
        act(settings)
        return
    printed = command("pipelines/training_pipeline.py", "--reuse")
    label = find_after(printed, "Model registered: ").split()[0]
    reason = challenge_blocker(settings, label)
    if reason is not None:
        done(f"{label} is not deployed: {reason}")
        return
    target = ["--model-name", label, "--stage", "production", "--enable-ab-test"]
    command("pipelines/deployment.py", *target, "--reason", "pipelines/run.py training")


@app.command()
def batch(
    as_of: Annotated[
        datetime | None,
        typer.Option(parser=utc_time, help="Features of events before this time; now by default."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Score everybody with the champion; replaces what there is of the same day."""
    moment = [] if as_of is None else ["--as-of", as_of.isoformat()]
    command("pipelines/inference_pipeline.py", *moment)


@app.command()
def monitoring(debug: Debug = False) -> None:
    """Make one pass of monitoring."""
    command("pipelines/monitoring_pipeline.py", "--once")


@app.command()
def experiment(debug: Debug = False) -> None:
    """Decide the running A/B test by its evidence; without one it does nothing."""
    current = current_deployment(load_settings())
    if current is None or current.challenger is None:
        done("No A/B test is running")
        return
    command("pipelines/deployment.py", "decide")


@app.command()
def requested(
    else_exit: Annotated[
        int, typer.Option(min=1, max=255, help="The exit code when no model is asked for.")
    ] = 1,
    debug: Debug = False,
) -> None:
    """Say whether monitoring asks for a model that is not there yet: exit code 0 if so."""
    request = retraining_store(load_settings()).open()
    if request is None or request.status == EXPERIMENT:
        done("No retraining is asked for")
        raise typer.Exit(else_exit)
    done(f"Request {request.request_id} is {request.status}: {request.reason}")


@app.command()
def retrain(
    reason: Annotated[
        str | None, typer.Option(help="Ask for a retraining first, for this reason.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Act on the open request for a new model: train it, judge it, enter it as challenger.

    Monitoring writes requests; run this from cron or Airflow, as often as you like. Without a
    request it does nothing. A run that dies is gone on with by the next.
    """
    if reason is not None:
        asked = trigger_training_pipeline(reason)
        if isinstance(asked, Withheld):
            done(f"No new request: {asked.reason}")
        else:
            done(f"Request {asked.request_id} written")
    act(load_settings())


def challenge_blocker(settings: Settings, label: str) -> str | None:
    """Why a version must not be entered now, in words; None when it may be.

    A version enters once: what lost a test would lose the next one too, and another test is not
    disturbed. What the gates refused against the present champion is not asked about again.
    """
    with closing(deployment_store(settings)) as store:
        current, past = store.current(), store.history()
    if current is None:
        return None
    if current.champion.label == label:
        return "it is the champion already"
    other = current.challenger
    if other is not None:
        return None if other.label == label else f"{other.label} is under test"
    if label in {arm.label for each in past for arm in each.arms}:
        return f"it was deployed before, and {current.champion.label} came after it"
    decision = decision_store(settings).newest(model_registry(settings).find(label))
    if decision is None or decision.passed or decision.champion_digest != current.champion.digest:
        return None
    return "; ".join(f"{each.gate}: {each.reason}" for each in decision.failed)


if __name__ == "__main__":
    run(app)
