"""``python -m monitoring``: alerts, labels, retrainings, and a simulated world."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from configs.command_line import AsJson, Debug, done, new_app, note, progress, run
from configs.settings import load_settings

app = new_app(
    "Look at alerts, labels and retrainings, try the sinks, and simulate a world. The checks "
    "themselves: python pipelines/monitoring_pipeline.py --once."
)


@app.command("alerts", epilog="Example: python -m monitoring alerts --all")
def alerts_command(
    everything: Annotated[
        bool, typer.Option("--all", help="Those that have been resolved too.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the alerts that are pending or fire."""
    from configs.output import Display, Table, show
    from monitoring.connect import alerts

    states = ("pending", "firing", *(("resolved",) if everything else ()))
    store = alerts(load_settings()).store
    found, waiting = store.alerts(states), store.waiting()
    rows = [(a.state, a.severity, a.key, a.message, a.since, a.owner, a.runbook) for a in found]
    columns = ("state", "severity", "alert", "what", "since", "owner", "runbook")
    title = ", ".join(f"{n:,} notices wait for {sink}" for sink, n in waiting.items())
    data = {"alerts": [vars(alert) for alert in found], "waiting": waiting}
    show(Display(data, [Table(title or "no notice waits", columns, rows)]), as_json=as_json)


@app.command("send-alert", epilog='Example: python -m monitoring send-alert "a test" -s warning')
def send_alert_command(
    message: Annotated[str, typer.Argument(help="What people shall read.")],
    severity: Annotated[
        str, typer.Option("--severity", "-s", help="info, warning or critical.")
    ] = "info",
    debug: Debug = False,
) -> None:
    """Tell people something through all sinks: also to try them."""
    from monitoring.alerts import send_alert

    if send_alert(message, severity):  # type: ignore[arg-type]
        done("Told; what a sink did not take is kept and sent again")
    else:
        done("Not told again: the same was told within the last hour")


@app.command("labels", epilog="Example: python -m monitoring labels --user 7")
def labels_command(
    user: Annotated[int | None, typer.Option(min=1, help="Only labels of this user.")] = None,
    prediction: Annotated[UUID | None, typer.Option(help="Only labels of this prediction.")] = None,
    caller: Annotated[
        str | None,
        typer.Option(help="Only what this key reported; 'anybody' without keys, or 'source'."),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List labels: who said what when, and which one of an event counts."""
    from configs.output import Display, Table, show
    from feature_store.offline.postgres import translated
    from models.connect import postgres
    from monitoring.log.labels import SaidLabel, said_labels

    with translated(), postgres(load_settings())() as connection:
        found = said_labels(connection, user=user, prediction=prediction, caller=caller, most=most)
    data = {"labels": [each._asdict() for each in found]}
    title = "" if found else "no label is there"
    show(Display(data, [Table(title, SaidLabel._fields, found)]), as_json=as_json)


@app.command(epilog="Example: python -m monitoring retrainings")
def retrainings(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the requests for a new model and what became of them."""
    from configs.output import Display, Table, show
    from monitoring.connect import retraining_store

    store = retraining_store(load_settings())
    requests, steps = store.requests(), store.steps()
    columns = ("request", "status", "version", "champion then", "asked for", "because")
    rows = [
        (r.request_id, r.status, r.label, r.champion, r.requested_at, r.reason) for r in requests
    ]
    what = ("when", "request", "step", "detail")
    happened = [(s.at, s.request_id, s.step, s.detail) for s in steps]
    data = {"requests": [vars(each) for each in requests], "steps": [vars(each) for each in steps]}
    show(Display(data, [Table("", columns, rows), Table("", what, happened)]), as_json=as_json)


@app.command(epilog="Example: python -m monitoring simulate --days 7 --visits 500")
def simulate(
    days: Annotated[int | None, typer.Option(min=1, help="How many; they end now.")] = None,
    visits: Annotated[int | None, typer.Option(min=1, help="A day.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same world for the same seed.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Play a simulated world into the stores: predictions of the champion, and late labels.

    Its incidents (a shift of covariates or concepts, a lost column, a new category, duplicates,
    an outage, slow labels) are in the settings under 'monitoring.simulation'. Visitors are users
    from 1,000,000 on, so nothing of real users is touched; but monitoring and retraining take
    them for real. Play in a system of its own: FTI_VAR_DIR=var/simulation.
    """
    from models.connect import current_deployment
    from monitoring.connect import simulation
    from monitoring.errors import MonitoringRefused

    given = {"days": days, "visits_a_day": visits, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = load_settings(monitoring={"simulation": chosen})
    config = settings.monitoring.simulation
    if current_deployment(settings) is None:
        raise MonitoringRefused(
            "Nothing is deployed, so nobody can answer. Run python pipelines/deployment.py first."
        )
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=config.days)
    played, total = simulation(settings, start), 0
    with progress("Playing", config.days, " days") as advance:
        for day in range(config.days):
            total += played.play(day)
            advance(1)
    done(f"{total:,} visits in {config.days} days from {start:%F %H:%M}")
    note("python pipelines/monitoring_pipeline.py --once looks at them")


if __name__ == "__main__":
    run(app)
