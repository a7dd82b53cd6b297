"""Monitoring: the windows that end now are checked, alerts move on, a retraining may be asked for.

python pipelines/monitoring_pipeline.py --once
python pipelines/monitoring_pipeline.py --every 60
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import Debug, done, new_app, note, run
from configs.errors import FTIError, SettingsError
from configs.files import write_whole
from configs.settings import Settings, load_settings
from monitoring.connect import full_reports, pass_runner
from monitoring.passes.follow_up import PassOutcome, PassRunner
from monitoring.reporting.metrics import Gauges
from monitoring.retraining_requests import RetrainingRequest

app = new_app()


@app.command()
def monitoring_pipeline(
    once: Annotated[bool, typer.Option("--once", help="Make one pass and end.")] = False,
    every: Annotated[
        float | None, typer.Option(min=1, help="Make a pass every so many seconds, until stopped.")
    ] = None,
    config: Annotated[Path, typer.Option(help="The monitoring settings (YAML).")] = Path(
        "configs/monitoring_config.yaml"
    ),
    debug: Debug = False,
) -> None:
    """Check drift, performance, skew, data quality and freshness; tell people what they must know.

    Results go to PostgreSQL, gauges to Prometheus, and a report page to var/monitoring. A check
    that has nothing to look at says so and is no error.
    """
    if once == (every is not None):
        raise SettingsError("Say either --once or --every 60.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = load_settings({"monitoring": config})
    runner, gauges = pass_runner(settings), Gauges()
    if every is None:
        one_pass(settings, runner, gauges)
        return
    port = gauges.serve(settings.monitoring.metrics_port)
    note(f"Gauges: http://localhost:{port}/metrics")
    with suppress(KeyboardInterrupt):
        for_ever(settings, runner, gauges, every)


def one_pass(settings: Settings, runner: PassRunner, gauges: Gauges) -> PassOutcome:
    """Make one pass, and leave everything that people look at."""
    found = runner.run(datetime.now(UTC))
    folder = settings.var_dir / "monitoring"
    page = folder / "report.html"
    write_whole(page, runner.page(found))
    store, result = runner.alerts.store, found.result
    firing = runner.alerts.firing()
    gauges.show(found.samples, firing, store.waiting(), result.as_of, result.seconds)
    gauges.write(folder / "metrics.prom")
    for check, line in result.lines():
        done(f"{check}: {line}")
    full = full_reports(settings).make(result)
    if full is not None:
        note(f"Evidently: {full.html} (or: evidently ui --workspace {full.workspace})")
    report_outcome(found)
    done(f"Report: {page}", result.seconds)
    return found


def report_outcome(found: PassOutcome) -> None:
    """Say which alerts changed, which sinks failed, and whether a retraining was asked for."""
    for alert in found.changed:
        note(f"alert {alert.key} is {alert.state}")
    for sink, problem in found.problems.items():
        note(f"sink {sink} does not take alerts: {problem}; they are kept and sent again")
    if isinstance(found.asked, RetrainingRequest):
        note(f"retraining asked for (request {found.asked.request_id}): {found.asked.reason}")
        note("python pipelines/run.py retrain acts on it")


def for_ever(settings: Settings, runner: PassRunner, gauges: Gauges, every: float) -> None:
    """Make passes until stopped; a server that is away is waited for."""
    while True:
        began = time.monotonic()
        try:
            one_pass(settings, runner, gauges)
        except FTIError as error:
            logging.getLogger("monitoring").warning("%s The next pass tries again.", error)
        time.sleep(max(every - (time.monotonic() - began), 0))


if __name__ == "__main__":
    run(app)
