"""A training in a real MLflow: complete, and readable by the stock client; or not at all."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from feature_store.training_data import TrainingRows
from models.artifact.artifact import open_artifact
from models.errors import RegistryUnavailable, UnknownModel
from models.registry.tracking import register_run
from models.registry.versions import ModelRegistry
from tests.worlds.rows import decoded_frame


@pytest.fixture(scope="module")
def registry(tracking_url):
    return ModelRegistry(tracking_url, "story-predictor")


@pytest.fixture(scope="module")
def version(registry, record):
    return register_run(registry, record)


@pytest.fixture(scope="module")
def client(tracking_url) -> MlflowClient:
    mlflow.set_tracking_uri(tracking_url)
    return MlflowClient(tracking_url, tracking_url)


def test_a_version_carries_label_stage_and_all_that_deployment_needs(version, record):
    assert version.label == f"story-xgb-v{version.version}"
    assert version.stage == "None"
    assert version.digest == record.artifact.digest
    assert version.fingerprint == record.artifact.fingerprint
    assert version.tags["git_commit"]
    assert version.tags["dataset_digest"] == record.dataset.digest


def test_the_run_holds_parameters_metrics_plots_and_the_data_set(client, version, record):
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(record.metrics)
    assert {"accuracy", "f1_score", "precision", "recall", "roc_auc", "pr_auc", "log_loss"} <= set(
        run.data.metrics
    )
    assert run.data.params["n_samples"] == "4000"
    assert run.data.params["n_features"] == "47"
    assert run.data.params["learning_rate"] == "0.2"
    assert run.data.params["n_trees"]
    [used] = run.inputs.dataset_inputs
    assert record.dataset.digest.startswith(used.dataset.digest)
    assert {file.path for file in client.list_artifacts(version.run_id)} == {
        "calibration.png",
        "config.json",
        "confusion_matrix.png",
        "evaluation.json",
        "feature_importance.png",
        "model_card.html",
        "pr_curve.png",
        "roc_curve.png",
        "shap_summary.png",
    }


def test_the_model_is_shown_as_ready(client, version):
    stored = client.get_model_version("story-predictor", str(version.version))
    model = client.get_logged_model(stored.source.split("/models/")[1].split("/")[0])
    assert model.status == "READY"
    assert {metric.key for metric in model.metrics} >= {"accuracy", "roc_auc"}


def test_the_artifact_is_there_byte_for_byte(version, tmp_path):
    folder = mlflow.artifacts.download_artifacts(version.artifact_uri, dst_path=str(tmp_path))
    assert open_artifact(tmp_path / os.path.basename(folder), version.digest).family == "xgboost"


def test_the_stock_client_loads_and_scores_words_and_codes(
    client, registry, version, trained, rows
):
    registry.set_alias("production", version)
    model = mlflow.pyfunc.load_model("models:/story-predictor@production")
    few = TrainingRows(rows.features.rows(np.arange(200)), rows.labels[:200])
    expected = trained.model.predict_proba(few.features)
    frame, _ = decoded_frame(few, "user_id", "income")
    by_words = model.predict(frame)
    assert by_words.index.equals(frame.index)
    assert by_words["probability"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert (by_words["prediction"] == (expected >= trained.model.threshold)).all()
    by_codes = model.predict(few.features.values)
    assert by_codes["probability"].to_numpy() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="lacks the features age"):
        model.predict(frame.drop(columns="age"))


def test_unseen_and_missing_words_have_their_own_codes(client, registry, version, trained, masker):
    registry.set_alias("production", version)
    model = mlflow.pyfunc.load_model("models:/story-predictor@production")
    schema = masker.engine.schema
    raw = {"age": 35, "education": "Bachelors", "occupation": "Astronaut", "hours_per_week": 40}
    vector = masker.engine.row(raw)
    import pandas as pd

    frame = pd.DataFrame([schema.decode(vector)])
    frame["occupation"] = "Astronaut"
    for name, feature in zip(schema.names, schema.features, strict=True):
        if feature.kind == "category" and vector[schema.position(name)] == 1:
            frame[name] = "no such word"
    by_words = model.predict(frame)["probability"].to_numpy()
    assert by_words.tobytes() == model.predict(vector[None])["probability"].to_numpy().tobytes()


def test_a_version_is_found_by_label_and_by_training_key(registry, version):
    assert registry.find(version.label) == registry.versions()[version.version - 1]
    known = registry.trained_from(version.tags["training_key"])
    assert known is not None
    assert known.label == version.label
    assert registry.trained_from("another") is None


def test_an_unknown_label_is_one_line_that_names_the_nearest(registry, version):
    with pytest.raises(UnknownModel) as unknown:
        registry.find(f"story-xgv-v{version.version}")
    assert f"Did you mean '{version.label}'?" in str(unknown.value)
    assert "\n" not in str(unknown.value)


def test_an_unknown_model_has_no_versions(tracking_url):
    with pytest.raises(UnknownModel, match="Known: none; run python pipelines/training_pipeline"):
        ModelRegistry(tracking_url, "nobody").find("nobody-xgb-v1")


def test_stages_and_aliases_are_what_the_stock_client_sees(client, registry, version):
    registry.set_stage(version, "Staging")
    registry.set_alias("challenger", version)
    seen = client.get_model_version_by_alias("story-predictor", "challenger")
    assert seen.tags["stage"] == seen.current_stage == "Staging"
    assert seen.tags["label"] == version.label
    registry.remove_alias("challenger")
    registry.remove_alias("challenger")
    assert "challenger" not in client.get_registered_model("story-predictor").aliases
    registry.set_stage(version, "None")


def test_a_deleted_experiment_is_restored(client, registry, version, record):
    number = registry.experiment_id(record.experiment)
    client.delete_experiment(number)
    assert registry.experiment_id(record.experiment) == number
    assert client.get_experiment(number).lifecycle_stage == "active"
    assert registry.experiment_url(record.experiment).endswith(f"/#/experiments/{number}")


class DyingProxy(ThreadingHTTPServer):
    """Hands requests on to a server; after so many it closes every connection unanswered."""

    daemon_threads = True

    def __init__(self, url: str, answers: int) -> None:
        self.target = urlsplit(url)
        self.left = answers
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: DyingProxy

    def _hand_on(self) -> None:
        self.server.left -= 1
        if self.server.left < 0:
            self.close_connection = True
            return
        target = self.server.target
        onward = http.client.HTTPConnection(target.hostname, target.port)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        onward.request(self.command, self.path, body, headers)
        answer = onward.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _hand_on  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def dying(url: str, answers: int) -> Iterator[DyingProxy]:
    proxy = DyingProxy(url, answers)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()
    thread.join()


def test_when_mlflow_goes_away_nothing_is_half_registered(registry, version, record):
    with dying(registry.url, answers=1_000) as proxy:
        register_run(ModelRegistry(proxy.url, registry.model_name), record)
        needed = 1_000 - proxy.left
    before = registry.versions()
    for answers in (0, 1, 3, needed // 2, needed - 5, needed - 3, needed - 2):
        with dying(registry.url, answers) as proxy, pytest.raises(RegistryUnavailable) as gone:
            register_run(ModelRegistry(proxy.url, registry.model_name), record)
        assert "\n" not in str(gone.value)
        assert registry.versions() == before, answers
    # The last request of all adds a readable copy of the label, which follows from the rest.
    with dying(registry.url, needed - 1) as proxy, pytest.raises(RegistryUnavailable):
        register_run(ModelRegistry(proxy.url, registry.model_name), record)
    [*_, last] = registry.versions()
    assert registry.find(last.label).digest == record.artifact.digest


def test_an_unreachable_server_is_one_line_within_seconds(record):
    registry = ModelRegistry("http://127.0.0.1:9", "story-predictor")
    for call in (
        registry.refuse_unreachable,
        registry.versions,
        lambda: register_run(registry, record),
    ):
        begun = time.monotonic()
        with pytest.raises(RegistryUnavailable) as gone:
            call()
        assert time.monotonic() - begun < 10
        assert "MLflow at http://127.0.0.1:9 does not answer" in str(gone.value)
        assert "\n" not in str(gone.value)


def test_artifacts_that_lie_elsewhere_are_refused(registry, record, tmp_path):
    with pytest.raises(RegistryUnavailable, match="expected mlflow-artifacts:/"):
        registry.api.upload(tmp_path, "s3://bucket/models")


def test_a_refusal_says_what_mlflow_said(registry, version):
    with pytest.raises(RegistryUnavailable, match="refused mlflow/model-versions/set-tag with 404"):
        registry.set_tags(replace(version, version=999), {"a": "b"})
