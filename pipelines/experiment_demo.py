"""Four A/B tests through the running API: what `make experiment-demo` runs.

A better challenger is promoted, a worse one rolled back, an equal one left undecided, and an
assignment that somebody tampers with is caught. Servers, models and logs are this demo's own,
below ``var/experiment-demo``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import typer

from configs.command_line import Debug, new_app, note, run
from configs.settings import ROOT, Settings, load_settings
from models.connect import current_deployment
from monitoring.connect import experiment_store
from pipelines.demo import DemoFailed, command, find_after, headline
from pipelines.experiments.traffic import (
    Person,
    SimulatedTraffic,
    held_out_people,
    loses_challengers,
)
from serving.process.presence import find_api

app = new_app()
HORIZON_S = 2.0
LOST_SHARE = 0.4
TEST_SETTINGS = {
    # The same machinery as in days, in seconds: labels come within 1.5 s and are judged at 2 s.
    "FTI_DEPLOYMENT__AB_TEST__LABEL_HORIZON_S": str(HORIZON_S),
    "FTI_DEPLOYMENT__AB_TEST__MINIMUM_RUN_S": "5",
}
SMALL = {"FTI_TRAINING__XGBOOST__N_ESTIMATORS": "30", "FTI_TRAINING__XGBOOST__LEARNING_RATE": "0.1"}
FULL: dict[str, str] = {}
OTHER_BINS = {"FTI_TRAINING__XGBOOST__MAX_BIN": "255"}


@dataclass(frozen=True)
class Scenario:
    """One test: who challenges, what must come of it, and whether somebody tampers."""

    title: str
    challenger: str
    expected: str
    force: str | None = None
    is_tampered: bool = False


@app.command()
def demo(debug: Debug = False) -> None:
    """Run four A/B tests on held-out people with delayed labels, in about three minutes."""
    folder = load_settings().var_dir / "experiment-demo"
    os.environ |= {"FTI_VAR_DIR": str(folder), **TEST_SETTINGS}
    settings = load_settings()
    try:
        small, full, other = prepare()
        scenarios = (
            Scenario("A better challenger", full, "promote"),
            Scenario("A worse challenger", small, "rollback", "to see it caught"),
            Scenario("An equal challenger", other, "continue"),
            Scenario("A tampered assignment", other, "rollback", is_tampered=True),
        )
        people = held_out_people(settings)
        plots = [play(settings, scenario, people) for scenario in scenarios]
        headline("What was decided")
        command("pipelines/deployment.py", "history")
        for scenario, plot in zip(scenarios, plots, strict=True):
            print(
                f"  {scenario.title:<22} {plot.relative_to(ROOT) if ROOT in plot.parents else plot}"
            )
    finally:
        headline("Stopping")
        command("-m", "infrastructure", "down")


def prepare() -> tuple[str, str, str]:
    """Start servers of this demo's own, compute features, train three models, deploy the first."""
    headline("Servers, features and three models")
    command("-m", "infrastructure", "delete", "--yes")
    command("-m", "infrastructure", "up")
    command("pipelines/feature_pipeline.py", "--mode", "batch")
    small = train_version(SMALL)
    command("pipelines/deployment.py", "--model-name", small, "--stage", "production")
    return small, train_version(FULL), train_version(OTHER_BINS)


def train_version(parameters: Mapping[str, str]) -> str:
    """Train a model with these settings; give its label."""
    before = dict(os.environ)
    os.environ |= parameters
    try:
        printed = command("pipelines/training_pipeline.py", "--model", "xgboost")
    finally:
        for name in parameters.keys() - before.keys():
            del os.environ[name]
    return find_after(printed, "Model registered: ").split()[0]


def play(settings: Settings, scenario: Scenario, people: list[Person]) -> Path:
    """Run one test until it is decided or everybody was answered; give the plot.

    Raises
    ------
    DemoFailed
        If something else comes of it than must.
    """
    headline(scenario.title)
    start = ("--model-name", scenario.challenger, "--stage", "production", "--enable-ab-test")
    force = () if scenario.force is None else ("--force", scenario.force)
    command("pipelines/deployment.py", *start, *force)
    deployment = current_deployment(settings)
    assert deployment is not None
    asking = people
    if scenario.is_tampered:
        is_lost = loses_challengers(deployment, LOST_SHARE)
        asking = [person for person in people if not is_lost(person)]
        note(f"a router in front of the API loses {LOST_SHARE:.0%} of the challenger's people")
    plot = settings.var_dir / "plots" / f"{scenario.title.lower().replace(' ', '-')}.png"
    controller = start_controller(plot)
    try:
        drive(settings, asking, lambda: controller.poll() is None)
    finally:
        controller.terminate()
        controller.wait()
    name = str(deployment.experiment)
    decided = experiment_store(settings).of(name)[-1]
    if decided.action != scenario.expected:
        raise DemoFailed(
            f"{scenario.title}: decided '{decided.action}' ({decided.reason}); expected "
            f"'{scenario.expected}'."
        )
    if scenario.expected == "continue":
        command("pipelines/deployment.py", "status")
        command("pipelines/deployment.py", "rollback", "--reason", "nothing speaks for a change")
    return plot


def start_controller(plot: Path) -> subprocess.Popen[bytes]:
    """Start a controller that looks every two seconds."""
    arguments = ["pipelines/deployment.py", "decide", "--watch", "2", "--plot", str(plot)]
    typer.secho(f"$ python {' '.join(arguments)}", dim=True)
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT)


def drive(settings: Settings, people: list[Person], goes_on: Callable[[], bool]) -> None:
    """Let people ask, and their labels come."""
    api = find_api(settings.var_dir)
    if api is None:
        raise DemoFailed("The API does not run; its log says why: make status")
    traffic = SimulatedTraffic(api.url, goes_on)
    try:
        traffic.run(people, HORIZON_S)
    except httpx.HTTPError as error:
        raise DemoFailed(f"The API at {api.url} stopped answering: {error!r}.") from error
    note(f"{traffic.answered:,} people were answered")


if __name__ == "__main__":
    run(app)
