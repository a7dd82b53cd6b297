"""What the DAGs share: our command lines as tasks, the data that link them, and the defaults.

Nothing of the project is imported here: Airflow has an environment of its own. A task is a command
line of the project, run in its folder (``PIPELINES_PROJECT``) by its Python (``PIPELINES_PYTHON``).
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset

PROJECT = Path(os.environ.get("PIPELINES_PROJECT") or Path(__file__).resolve().parents[3])
PYTHON = os.environ.get("PIPELINES_PYTHON") or str(PROJECT / ".venv" / "bin" / "python")
NOT_NOW = 99
"""Exit code of a command that had nothing to do: its task is skipped, and its asset unchanged."""
ALERT_LIMIT_S = 120

FEATURES = Asset("fti://stores/features")
"""Both stores have what the source had."""
WEEK_OF_FEATURES = Asset("fti://stores/week_of_features")
"""As `FEATURES`, once a week: what a training waits for."""
RETRAIN_REQUEST = Asset("fti://monitoring/retrain_request")
"""Monitoring has asked for a new model."""
MODEL = Asset("fti://registry/model")
"""There is a new version, judged and, if the gates let it, deployed or under test."""
PREDICTIONS = Asset("fti://batch/predictions")

STARTED = datetime(2020, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - read by any Python of Airflow
"""Intervals from then on can be backfilled."""


def alert(context: dict[str, Any]) -> None:
    """Tell people through the project's own alert sinks that a task has failed for good."""
    task, run = context["task_instance"], context["dag_run"]
    what = f"Airflow: {task.dag_id}.{task.task_id} failed in run {run.run_id}"
    command = [PYTHON, "-m", "monitoring", "send-alert", what, "--severity", "critical"]
    told = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=ALERT_LIMIT_S, check=False
    )
    print(told.stdout or told.stderr)


DEFAULTS: dict[str, Any] = {
    "owner": "fti",
    "retries": 2,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
    "on_failure_callback": alert,
}
"""Of every task."""

ONE_AT_A_TIME: dict[str, Any] = {
    "start_date": STARTED,
    "catchup": False,
    "max_active_runs": 1,
    "default_args": DEFAULTS,
    "tags": ["fti"],
}
"""Of every DAG: runs of it never overlap, and missed ones are not made up for unasked."""


def command(
    task_id: str,
    arguments: str,
    *,
    pool: str,
    limit: timedelta,
    outlets: list[Asset] | None = None,
    inlets: list[Asset] | None = None,
) -> BashOperator:
    """Make a task of ``python ARGUMENTS`` in the project's folder.

    Parameters
    ----------
    arguments
        May have Airflow's templates, for times and ids.
    pool
        Writers of the same thing share a pool of one slot.
    limit
        After it the task is ended, and tried again.
    """
    return BashOperator(
        task_id=task_id,
        bash_command=f"exec '{PYTHON}' {arguments}",
        cwd=str(PROJECT),
        append_env=True,
        do_xcom_push=False,
        skip_on_exit_code=NOT_NOW,
        pool=pool,
        execution_timeout=limit,
        outlets=outlets or [],
        inlets=inlets or [],
    )
