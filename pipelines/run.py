"""Runs pipelines by name, for people, cron and Airflow.

python pipelines/run.py retrain
"""

from __future__ import annotations

from typing import Annotated

import typer

from configs.command_line import Debug, done, new_app, run
from configs.settings import load_settings
from monitoring.retraining import trigger_training_pipeline
from monitoring.retraining_rules import Withheld
from pipelines.retraining import retrain as act

app = new_app("Run a pipeline by name.")


@app.callback()
def about() -> None:
    """Run a pipeline by name."""


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


if __name__ == "__main__":
    run(app)
