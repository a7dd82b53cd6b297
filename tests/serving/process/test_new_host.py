"""A host that has nothing yet, while MLflow is down: it starts from the mirror of artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.artifact.cache import ArtifactCache, MlflowFiles
from models.artifact.mirror import ArtifactMirror
from tests.worlds.serving import World, new_host, running_api


@pytest.fixture
def mirror(world: World, tmp_path: Path) -> ArtifactMirror:
    """A mirror that holds version 1, which is deployed, as a deployment leaves it."""
    mirror, arm = ArtifactMirror(str(tmp_path / "mirror")), world.artifacts.arm(1)
    cache = ArtifactCache(tmp_path / "deployer", MlflowFiles(lambda: world.artifacts.url))
    mirror.fill(cache.get(arm.artifact_uri, arm.digest))
    world.deploy(1)
    return mirror


def test_a_new_host_serves_while_mlflow_is_down(world, mirror, tmp_path) -> None:
    host = new_host(world, tmp_path / "host")
    with running_api(host, FTI_DEPLOYMENT__ARTIFACT_MIRROR=mirror.address) as api:
        api.until_generation(1)
        answer = api.post("/predict", json={"user_id": 1})
        assert answer.status_code == 200
        assert answer.json()["model_version"] == "income-xgb-v1"


def test_without_a_whole_copy_it_says_what_it_tried_and_serves_once_it_is_mended(
    world, mirror, tmp_path
) -> None:
    [copy] = Path(mirror.address).iterdir()
    whole = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(whole[:-1] + b"x")
    host = new_host(world, tmp_path / "host")
    with running_api(host, FTI_DEPLOYMENT__ARTIFACT_MIRROR=mirror.address) as api:
        refused = api.until("/ready", lambda answer: "mirror" in answer.text)
        assert refused.status_code == 503
        assert "cannot be fetched from MLflow" in refused.json()["error"]
        assert "model.onnx was altered" in refused.json()["error"]
        assert api.post("/predict", json={"user_id": 1}).status_code == 503
        (copy / "model.onnx").write_bytes(whole)
        api.until_generation(1)
        assert api.post("/predict", json={"user_id": 1}).status_code == 200
