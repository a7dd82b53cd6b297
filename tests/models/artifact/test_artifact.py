"""An artifact is used only when every byte of it is what was registered."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from models.artifact.artifact import MANIFEST, open_artifact, write_artifact
from models.bulk_scorer import BulkScorer
from models.errors import ArtifactError
from models.onnx.scorer import OnnxScorer


@pytest.fixture
def artifact(record, tmp_path):
    return open_artifact(shutil.copytree(record.artifact.path, tmp_path / "artifact"))


def test_it_says_what_the_model_takes_and_how_it_decides(artifact, trained, split):
    schema = split.test.features.schema
    assert artifact.features == schema.names
    assert artifact.fingerprint == schema.fingerprint
    assert (artifact.family, artifact.threshold) == ("xgboost", trained.model.threshold)
    assert artifact.config["label_prefix"] == "xgb"
    assert artifact.config["params"]["max_depth"] == 4
    assert artifact.schema["entity"] == "user_id"
    [education] = [f for f in artifact.schema["features"] if f["name"] == "education"]
    assert education["categories"][-1] == "Doctorate"


def test_it_opens_under_its_digest_and_no_other(artifact):
    assert open_artifact(artifact.path, artifact.digest).digest == artifact.digest
    with pytest.raises(ArtifactError, match=r"manifest\.json was altered"):
        open_artifact(artifact.path, "0" * 64)


@pytest.mark.parametrize(
    "name", ["model.ubj", "model.onnx", "schema.json", "config.json", "example.json"]
)
def test_one_flipped_bit_is_noticed(artifact, name):
    path = artifact.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} was altered: its SHA-256 is"):
        open_artifact(artifact.path, artifact.digest)
    with pytest.raises(ArtifactError, match="was altered"):
        artifact.read(name)


def test_a_missing_file_is_noticed(artifact):
    (artifact.path / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx: No such file"):
        open_artifact(artifact.path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"[", "is not a manifest"),
        (b"{}", "is not a manifest"),
        (json.dumps({"format": 2, "files": {}}).encode(), "has format 2; this code reads 1"),
        (json.dumps({"format": 1, "files": {}}).encode(), "lacks schema.json"),
    ],
)
def test_a_strange_manifest_is_refused(artifact, manifest, message):
    (artifact.path / MANIFEST).write_bytes(manifest)
    with pytest.raises(ArtifactError, match=message):
        open_artifact(artifact.path)


def test_a_manifest_cannot_name_files_elsewhere(artifact):
    stored = json.loads((artifact.path / MANIFEST).read_bytes())
    stored["files"]["../secret"] = "0" * 64
    (artifact.path / MANIFEST).write_text(json.dumps(stored))
    with pytest.raises(ArtifactError, match="expected files beside it"):
        open_artifact(artifact.path)


def test_equal_files_have_equal_digests(artifact, tmp_path):
    files = {name: artifact.read(name) for name in artifact.files}
    assert write_artifact(tmp_path / "again", files).digest == artifact.digest


def test_both_engines_give_the_example_its_probabilities(artifact):
    vectors, probabilities = artifact.example()
    onnx = OnnxScorer(artifact.read("model.onnx"), len(artifact.features))
    assert onnx.predict(vectors).tobytes() == probabilities.tobytes()
    bulk = BulkScorer(artifact.path / "model.ubj")
    assert bulk.predict(vectors) == pytest.approx(probabilities, abs=1e-5)
    assert np.isnan(vectors).any()


def test_no_file_is_a_pickle(artifact):
    for name in artifact.files:
        content = artifact.read(name)
        assert not content.startswith((b"\x80\x03", b"\x80\x04", b"\x80\x05")), name


def test_opening_and_scoring_needs_no_slow_library(artifact):
    program = f"""
import sys
from pathlib import Path
import numpy as np
from models.artifact.artifact import open_artifact
from models.onnx.scorer import OnnxScorer
artifact = open_artifact(Path({str(artifact.path)!r}))
vectors, _ = artifact.example()
OnnxScorer(artifact.read("model.onnx"), len(artifact.features)).predict(vectors)
slow = {{"xgboost", "sklearn", "mlflow", "feast", "pandas", "polars", "matplotlib"}}
print(sorted(slow & set(sys.modules)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
