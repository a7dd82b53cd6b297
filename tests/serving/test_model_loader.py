import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from feature_store.feature_definitions import MODEL_VIEW
from models.artifact.artifact import example_json, json_bytes
from models.artifact.cache import MlflowFiles
from serving.errors import ModelUnusable
from serving.model_loader import ModelLoader
from tests.worlds.artifacts import artifact_server, model_files, scorer
from tests.worlds.rows import random_matrix


@pytest.fixture
def artifacts(tmp_path):
    with artifact_server(tmp_path / "kept") as artifacts:
        yield artifacts


@pytest.fixture
def loader(artifacts, tmp_path):
    return ModelLoader(tmp_path / "cache", MlflowFiles(lambda: artifacts.url))


def stored(artifacts, name="model.onnx"):
    return artifacts.folder / "1" / "model" / name


def test_a_fetched_model_answers_as_the_registered_one(loader, artifacts):
    model = loader.load(artifacts.arm(1))

    vector = random_matrix(10).values[3]
    assert model.probability(vector) == float(scorer(1).predict(vector[None, :])[0])
    assert model.threshold == 0.5


def test_a_model_is_fetched_once(loader, artifacts):
    arm = artifacts.arm(1)
    loader.load(arm)
    fetched = len(artifacts.requests)
    loader.load(arm)

    assert len(artifacts.requests) == fetched


def test_a_cached_model_needs_no_registry(loader, artifacts, tmp_path):
    arm = artifacts.arm(1)
    loader.load(arm)
    shutil.rmtree(artifacts.folder)

    ModelLoader(loader.cache, MlflowFiles(lambda: "http://127.0.0.1:1")).load(arm)


def test_a_cached_model_that_was_damaged_is_fetched_again(loader, artifacts):
    arm = artifacts.arm(1)
    loader.load(arm)
    cached = loader.cache / arm.digest / "model.onnx"
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")

    loader.load(arm)
    assert (
        hashlib.sha256(cached.read_bytes()).hexdigest()
        == hashlib.sha256(model_files(1)["model.onnx"]).hexdigest()
    )


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "schema.json", "example.json"])
def test_an_altered_file_is_refused(loader, artifacts, name):
    arm = artifacts.arm(1)
    content = bytearray(stored(artifacts, name).read_bytes())
    content[len(content) // 2] ^= 1
    stored(artifacts, name).write_bytes(content)

    with pytest.raises(ModelUnusable, match=f"income-xgb-v1 cannot be used: .*{name} was altered"):
        loader.load(arm)
    assert list(loader.cache.iterdir()) == []


def test_an_altered_manifest_is_refused(loader, artifacts):
    arm = replace(artifacts.arm(1), digest="0" * 64)

    with pytest.raises(ModelUnusable, match="is not the registered one"):
        loader.load(arm)


def test_a_missing_file_is_refused(loader, artifacts):
    arm = artifacts.arm(1)
    stored(artifacts).unlink()

    with pytest.raises(ModelUnusable, match=r"model\.onnx of the artifact at .* cannot be fetched"):
        loader.load(arm)


def test_a_model_says_which_features_it_takes(loader, artifacts):
    assert loader.load(artifacts.arm(1)).schema.fingerprint == MODEL_VIEW.schema.fingerprint


def test_a_model_whose_features_are_described_otherwise_is_refused(loader, artifacts):
    schema = json.loads(model_files(1)["schema.json"])
    schema["features"][0]["valid_range"] = [0, 99]
    artifacts.add(1, schema_json=json_bytes(schema))

    with pytest.raises(ModelUnusable, match=r"describes features .*; the model was trained on"):
        loader.load(artifacts.arm(1))


def test_a_model_that_answers_its_example_otherwise_is_refused(loader, artifacts):
    vectors = random_matrix(5).values
    artifacts.add(1, example_json=example_json(vectors, [0.9] * 5))

    with pytest.raises(ModelUnusable, match="answers its example with a difference of"):
        loader.load(artifacts.arm(1))


@pytest.mark.parametrize(
    "files",
    [
        {"model_onnx": b"no graph"},
        {"model_onnx": b""},
        {"example_json": b"{}"},
        {"example_json": b"no json"},
        {"config_json": json_bytes({"family": "xgboost"})},
        {"example_json": json_bytes({"vectors": [[1.0]], "probabilities": [0.5]})},
    ],
)
def test_registered_nonsense_is_refused_with_one_clear_line(loader, artifacts, files):
    artifacts.add(1, **files)

    with pytest.raises(ModelUnusable, match="income-xgb-v1 cannot be used: ") as refusal:
        loader.load(artifacts.arm(1))
    assert "\n" not in str(refusal.value)


def test_a_registry_that_is_gone_is_one_clear_line(tmp_path, artifacts):
    loader = ModelLoader(tmp_path, MlflowFiles(lambda: "http://127.0.0.1:1"))

    with pytest.raises(ModelUnusable, match=r"cannot be fetched from MLflow: .*make status"):
        loader.load(artifacts.arm(1))


def test_an_artifact_that_mlflow_does_not_hand_out_is_refused(loader, artifacts):
    arm = replace(artifacts.arm(1), artifact_uri="s3://bucket/model")

    with pytest.raises(
        ModelUnusable, match=r"lies at s3://bucket/model; expected mlflow-artifacts"
    ):
        loader.load(arm)
