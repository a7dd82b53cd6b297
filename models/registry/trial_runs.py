"""The trials of a tuning as runs below the run of the training, as MLflow shows them."""

from __future__ import annotations

import getpass
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any

from models.registry.mlflow_api import MlflowApi, tags_of

if TYPE_CHECKING:
    from models.training.tuning import FinishedTrial, Tuned

AT_ONCE = 8
"""Trials that are logged side by side: each needs three answers, which mostly wait."""


def log_trials(api: MlflowApi, experiment: str, parent: str, tuned: Tuned) -> None:
    """Log every finished trial of a study, whoever ran it: three requests each, eight at once.

    Raises
    ------
    RegistryUnavailable
        If MLflow goes away.
    """
    api.refuse_unreachable()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        logged = pool.map(lambda trial: _log(api, experiment, parent, tuned, trial), tuned.trials)
        for _ in logged:  # raises what a trial raised
            pass


def _log(api: MlflowApi, experiment: str, parent: str, tuned: Tuned, trial: FinishedTrial) -> None:
    begun, ended = _ms(trial.started_at), _ms(trial.ended_at)
    tags = {
        "mlflow.parentRunId": parent,
        "mlflow.runName": f"trial {trial.number}",
        "mlflow.user": getpass.getuser(),
        "study": tuned.study,
        "state": "pruned" if trial.was_pruned else "complete",
    }
    created = api.post(
        "runs/create",
        experiment_id=experiment,
        run_name=f"trial {trial.number}",
        start_time=begun,
        tags=tags_of(tags),
    )
    run_id = created["run"]["info"]["run_id"]
    metrics = [
        _metric("log_loss_by_fold", value, ended, n) for n, value in enumerate(trial.by_fold)
    ]
    if trial.value is not None:
        metrics.append(_metric("log_loss", trial.value, ended, 0))
    api.post("runs/log-batch", run_id=run_id, params=tags_of(trial.params), metrics=metrics)
    api.post("runs/update", run_id=run_id, status="FINISHED", end_time=ended)


def _metric(name: str, value: float, at_ms: int, step: int) -> dict[str, Any]:
    return {"key": name, "value": value, "timestamp": at_ms, "step": step}


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
