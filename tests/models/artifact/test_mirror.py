"""The mirror of artifacts: a folder and an object store pass the same checklist."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from models.artifact.artifact import MANIFEST, ModelArtifact, open_artifact, write_artifact
from models.artifact.cache import ArtifactCache
from models.artifact.mirror import ArtifactMirror
from models.errors import ArtifactError
from tests.worlds.artifacts import model_files


def not_asked(uri: str, name: str) -> bytes:
    raise ArtifactError(f"{name} of the artifact at {uri} cannot be fetched from MLflow: gone.")


@pytest.fixture
def artifact(tmp_path: Path) -> ModelArtifact:
    return write_artifact(tmp_path / "artifact", model_files(1))


@pytest.fixture(params=["folder", "s3"])
def mirror(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ArtifactMirror:
    if request.param == "folder":
        return ArtifactMirror(str(tmp_path / "mirror"))
    import boto3

    endpoint, bucket = request.getfixturevalue("s3"), f"mirror-{uuid.uuid4().hex[:8]}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    return ArtifactMirror(f"s3://{bucket}/models")


def damage(mirror: ArtifactMirror, path: str, content: bytes | None = None) -> None:
    """Replace a file behind the mirror's back; None removes it."""
    import obstore

    if content is None:
        obstore.delete(mirror._store, path)
    else:
        obstore.put(mirror._store, path, content)


def test_what_is_kept_is_had_without_the_registry(mirror, artifact, tmp_path) -> None:
    assert mirror.fill(artifact)
    assert not mirror.fill(artifact)
    cache = ArtifactCache(tmp_path / "cache", not_asked, mirror)
    found = cache.get("mlflow-artifacts:/1", artifact.digest)
    assert found.files == artifact.files
    assert (tmp_path / "cache" / artifact.digest / MANIFEST).exists()


def test_what_is_not_whole_or_altered_is_refused_then_mended_by_the_next_deployment(
    mirror, artifact, tmp_path
) -> None:
    cache = ArtifactCache(tmp_path / "cache", not_asked, mirror)
    for path, content in (
        ("model.onnx", b"altered"),
        ("schema.json", None),
        (MANIFEST, b'{"format": 1, "files": {}}'),
        (MANIFEST, None),
    ):
        mirror.fill(artifact)
        damage(mirror, f"{artifact.digest}/{path}", content)
        with pytest.raises(ArtifactError, match=r"from MLflow: gone\. Nor is it in the mirror: "):
            cache.get("mlflow-artifacts:/1", artifact.digest)
        assert list((tmp_path / "cache").glob("*")) == []
        assert mirror.fill(artifact)
        assert not mirror.fill(artifact)
    assert cache.get("mlflow-artifacts:/1", artifact.digest).files == artifact.files


def test_what_the_mirror_lacks_is_asked_of_the_registry(mirror, artifact, tmp_path) -> None:
    def registry(uri: str, name: str) -> bytes:
        return (artifact.path / name).read_bytes()

    cache = ArtifactCache(tmp_path / "cache", registry, mirror)
    assert cache.get("mlflow-artifacts:/1", artifact.digest).files == artifact.files


def test_a_copy_that_ends_half_way_is_no_artifact(mirror, artifact) -> None:
    half = open_artifact(artifact.path)
    (artifact.path / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        mirror.fill(half)
    [found] = mirror.list()
    assert (found.digest, found.is_whole) == (artifact.digest, False)
    with pytest.raises(ArtifactError, match="mirror of artifacts cannot be used"):
        mirror.read(artifact.digest, MANIFEST)


def test_artifacts_are_listed_and_removed(mirror, artifact, tmp_path) -> None:
    other = write_artifact(tmp_path / "other", model_files(2))
    mirror.fill(artifact)
    mirror.fill(other)
    assert {each.digest for each in mirror.list()} == {artifact.digest, other.digest}
    mirror.remove(artifact.digest)
    [left] = mirror.list()
    assert (left.digest, left.is_whole) == (other.digest, True)
    assert left.size == sum(path.stat().st_size for path in other.path.iterdir())


def test_an_altered_artifact_is_not_kept(mirror, artifact) -> None:
    (artifact.path / "config.json").write_bytes(b"{}")
    with pytest.raises(ArtifactError, match=r"config\.json was altered"):
        mirror.fill(artifact)


@pytest.mark.parametrize("address", ["s3://nowhere/models", "ftp://host/models"])
def test_a_mirror_that_cannot_be_used_is_one_clear_error(address, artifact, monkeypatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "hunter2-secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ArtifactError, match=r"Check deployment\.artifact_mirror") as caught:
        ArtifactMirror(address).fill(artifact)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.rmtree(artifact.path)
