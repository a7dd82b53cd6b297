"""What MLflow keeps of a training: one run with all that is needed to judge and to repeat it."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from models.artifact.artifact import ModelArtifact
from models.errors import ModelError
from models.lineage import Dataset
from models.registry.mlflow_api import MlflowApi, tags_of
from models.registry.pyfunc import DATA, write_pyfunc
from models.registry.versions import ModelRegistry, ModelVersion

if TYPE_CHECKING:
    from models.training.tuning import FinishedTrial, Tuned


LONGEST_DIGEST = 36
"""MLflow keeps no longer digest of a data set; the whole one is a tag."""


@dataclass(frozen=True)
class TrainingRecord:
    """Everything about one training.

    Parameters
    ----------
    experiment, run_name
        As MLflow shows them.
    params, metrics, tags
        Of the run; the tags go to the version as well.
    files
        A folder whose files become the run's artifacts: plots, ``config.json``.
    artifact
        The deployable model.
    tuned
        The search for its hyper-parameters: each trial becomes a run below this one.
    """

    experiment: str
    run_name: str
    started_at: datetime
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    dataset: Dataset
    files: Path
    artifact: ModelArtifact
    tuned: Tuned | None = None


def register_run(registry: ModelRegistry, record: TrainingRecord) -> ModelVersion:
    """Log a training and register its model, which appears only once everything else is there.

    Raises
    ------
    RegistryUnavailable
        If MLflow goes away; then no version was registered, and the run is marked as failed if
        MLflow can still be told.
    """
    api = registry.api
    experiment = registry.experiment_id(record.experiment)
    tags = {
        "mlflow.source.name": "pipelines/training_pipeline.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": record.tags.get("git_commit", ""),
        **record.tags,
    }
    run = _create_run(api, experiment, record.run_name, _ms(record.started_at), tags)
    run_id = str(run["run_id"])
    try:
        api.upload(record.files, run["artifact_uri"])
        model = _upload_model(api, experiment, run_id, record)
        _log_facts(api, run_id, model["model_id"], record)
        if record.tuned is not None:
            log_trials(api, experiment, run_id, record.tuned)
        _end_run(api, run_id, "FINISHED")
        return registry.register(
            model["artifact_uri"],
            run_id=run_id,
            model_id=model["model_id"],
            tags=_version_tags(record, model["artifact_uri"]),
        )
    except BaseException:
        # The server may be what failed: the first error is the one to report.
        with suppress(ModelError):
            _end_run(api, run_id, "FAILED")
        raise


def _create_run(
    api: MlflowApi, experiment: str, name: str, started_ms: int, tags: Mapping[str, str]
) -> dict[str, Any]:
    shown = {"mlflow.runName": name, "mlflow.user": getpass.getuser()}
    created = api.post(
        "runs/create",
        experiment_id=experiment,
        run_name=name,
        start_time=started_ms,
        tags=tags_of({**shown, **tags}),
    )
    return dict(created["run"]["info"])


def _upload_model(
    api: MlflowApi, experiment: str, run_id: str, record: TrainingRecord
) -> dict[str, Any]:
    """Upload the model with MLflow's own description, so that the stock client can load it."""
    created = api.post(
        "logged-models", experiment_id=experiment, name=record.run_name, source_run_id=run_id
    )
    model = dict(created["model"]["info"])
    try:
        with TemporaryDirectory() as temporary:
            write_pyfunc(Path(temporary), record.artifact, model["model_id"])
            api.upload(Path(temporary), model["artifact_uri"])
        _end_model(api, model["model_id"], "LOGGED_MODEL_READY")
    except BaseException:
        with suppress(ModelError):
            _end_model(api, model["model_id"], "LOGGED_MODEL_UPLOAD_FAILED")
        raise
    return model


def _log_facts(api: MlflowApi, run_id: str, model_id: str, record: TrainingRecord) -> None:
    now_ms = int(time.time() * 1000)
    metrics = [
        {"key": name, "value": value, "timestamp": now_ms, "step": 0, "model_id": model_id}
        for name, value in record.metrics.items()
    ]
    api.post("runs/log-batch", run_id=run_id, params=tags_of(record.params), metrics=metrics)
    used = {
        "dataset": _dataset(record.dataset),
        "tags": tags_of({"mlflow.data.context": "training"}),
    }
    api.post("runs/log-inputs", run_id=run_id, datasets=[used])
    api.post("runs/outputs", run_id=run_id, models=[{"model_id": model_id, "step": 0}])


def _dataset(dataset: Dataset) -> dict[str, str]:
    profile = {"num_rows": dataset.n_samples, "num_features": dataset.n_features}
    source = {"view": dataset.name, "fingerprint": dataset.fingerprint, "sha256": dataset.digest}
    return {
        "name": dataset.name,
        "digest": dataset.digest[:LONGEST_DIGEST],
        "source_type": "offline_store",
        "source": json.dumps(source),
        "profile": json.dumps(profile),
    }


def _end_model(api: MlflowApi, model_id: str, status: str) -> None:
    api.patch(f"logged-models/{model_id}", model_id=model_id, status=status)


def _end_run(api: MlflowApi, run_id: str, status: str) -> None:
    api.post("runs/update", run_id=run_id, status=status, end_time=int(time.time() * 1000))


def _version_tags(record: TrainingRecord, location: str) -> dict[str, str]:
    artifact = record.artifact
    return {
        **record.tags,
        "family": artifact.family,
        "label_prefix": str(artifact.config["label_prefix"]),
        "artifact_uri": f"{location}/{DATA}",
        "artifact_digest": artifact.digest,
    }


AT_ONCE = 8
"""Trials that are logged side by side: each needs three answers, which mostly wait."""


def log_trials(api: MlflowApi, experiment: str, parent: str, tuned: Tuned) -> None:
    """Log every finished trial of a study, of any process: three requests each, eight at once.

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
        "study": tuned.study,
        "state": "pruned" if trial.was_pruned else "complete",
    }
    run_id = _create_run(api, experiment, f"trial {trial.number}", begun, tags)["run_id"]
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
