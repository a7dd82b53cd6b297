"""The deployable artifact: a folder whose files are checked by hash before any is used.

=================  =============================================================================
manifest.json      SHA-256 of every other file; its own SHA-256 is the artifact's digest
schema.json        view, entity, fingerprint, and the definitions of the features, in order
config.json        family, label prefix, threshold, parameters, seed, and how it came about
model.onnx         the model, whatever its family
model.ubj          XGBoost: the native model, for many rows at once
trees.npz          XGBoost: the trees as arrays, which explain without the library
model.npz, .json   neural network: its arrays, and what else makes it up
ensemble.json      ensemble: weights of the families, whose files (xgboost_0.ubj, …) are beside it
calibration.json   where there is one: the curve behind the native model; inside ``model.onnx``
example.json       a few vectors with the probabilities that ``model.onnx`` gives them
profile.json       histograms of the training rows, which later rows are compared with
=================  =============================================================================

Nothing in it is a pickle; only NumPy and the standard library are needed to open it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FeatureSchema
from models.artifact.profile import ReferenceProfile
from models.errors import ArtifactError

FORMAT = 1
MANIFEST = "manifest.json"
PROFILE = "profile.json"
REQUIRED = ("schema.json", "config.json", "model.onnx", "example.json")


@dataclass(frozen=True)
class ModelArtifact:
    """An artifact whose files have been checked.

    Parameters
    ----------
    path
        Its folder.
    digest
        SHA-256 of the manifest, in hex: it stands for every byte of the artifact.
    files
        File name to SHA-256.
    """

    path: Path
    digest: str
    files: Mapping[str, str] = field(repr=False)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What is in ``config.json``."""
        return self._json("config.json")

    @cached_property
    def schema(self) -> dict[str, Any]:
        """What is in ``schema.json``."""
        return self._json("schema.json")

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the features that the model takes."""
        return str(self.schema["fingerprint"])

    @cached_property
    def feature_schema(self) -> FeatureSchema:
        """The features that the model takes, as they were defined when it was trained.

        Raises
        ------
        ArtifactError
            If they are not described completely.
        """
        try:
            view, whole = self.schema["view"], self.schema.get("selected_from")
            key = [self.schema["key"]] if "key" in self.schema else []
            schema = FeatureSchema.from_meaning(view, [*key, *self.schema["features"]])
            if whole is not None:
                schema = replace(schema, whole=FeatureSchema.from_meaning(view, whole))
            schema = schema.with_words(self.schema.get("words", {}))
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{self.path}/schema.json lacks {error}. Train again.") from error
        if schema.fingerprint != self.fingerprint:
            raise ArtifactError(
                f"{self.path}/schema.json describes features {schema.fingerprint}; the model was "
                f"trained on {self.fingerprint}. Train again."
            )
        return schema

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the order of the vector."""
        return tuple(feature["name"] for feature in self.schema["features"])

    @property
    def threshold(self) -> float:
        """From this probability on the prediction is 1."""
        return float(self.config["threshold"])

    @property
    def family(self) -> str:
        """Name of the family of models."""
        return str(self.config["family"])

    def read(self, name: str) -> bytes:
        """Read a file and check these very bytes.

        Raises
        ------
        ArtifactError
            If the file is not there or was altered.
        """
        return _checked_bytes(self.path, name, self.files.get(name, "no hash"))

    def example(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors ``(n, p)`` and the probabilities ``(n,)`` that they must get, to 1e-5."""
        stored = self._json("example.json")
        vectors = np.array(stored["vectors"], dtype=np.float32)  # null is NaN
        return vectors, np.array(stored["probabilities"], dtype=np.float32)

    def profile(self) -> ReferenceProfile | None:
        """What the training rows looked like; None in an artifact from before it was kept."""
        if PROFILE not in self.files:
            return None
        return ReferenceProfile.from_json(self._json(PROFILE))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads(self.read(name))
        except ValueError as error:
            raise ArtifactError(f"{self.path / name} is not valid JSON: {error}.") from error
        return values


def write_artifact(folder: Path, files: Mapping[str, bytes]) -> ModelArtifact:
    """Write files and a manifest of their hashes; return the artifact.

    Files that are in the folder already, such as a native model, become part of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_bytes(json_bytes({"format": FORMAT, "files": hashes}))
    return open_artifact(folder)


def open_artifact(
    path: Path, digest: str | None = None, *, check_files: bool = True
) -> ModelArtifact:
    """Open an artifact and check every file by its hash.

    Parameters
    ----------
    digest
        The digest that it must have; None takes the manifest's word.
    check_files
        Whether to read all files now; each is checked anyway when it is read.

    Raises
    ------
    ArtifactError
        If a file is missing or altered, or the artifact is another one.
    """
    manifest = _checked_bytes(path, MANIFEST, digest)
    try:
        stored = json.loads(manifest)
        files, version = dict(stored["files"]), stored["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path / MANIFEST} is not a manifest: {error!r}.") from error
    if version != FORMAT:
        raise ArtifactError(f"{path} has format {version}; this code reads {FORMAT}. Update it.")
    for name in REQUIRED:
        if name not in files:
            raise ArtifactError(f"{path} lacks {name}. Train again or fetch it again.")
    for name, expected in files.items():
        if Path(name).name != name:
            raise ArtifactError(f"{path / MANIFEST} names '{name}'; expected files beside it.")
        if check_files:
            _checked_bytes(path, name, expected)
    return ModelArtifact(path, hashlib.sha256(manifest).hexdigest(), files)


def schema_json(schema: FeatureSchema, entity: str) -> bytes:
    """Describe the features as ``schema.json``, and those of the view that they are some of."""
    schema = schema.model_inputs
    about = {"view": schema.view, "entity": entity, "fingerprint": schema.fingerprint}
    selected = {"selected_from": schema.whole.meaning} if schema.whole else {}
    marks = {f.name: f.missing_marks for f in schema.features if f.missing_marks}
    features = {"features": [f.meaning for f in schema.features], "missing_marks": marks}
    key = {} if schema.key is None else {"key": schema.key.meaning}
    words = {"words": schema.words} if schema.words else {}
    return json_bytes(about | key | features | words | selected)


def example_json(vectors: NDArray[np.float32], probabilities: Sequence[float]) -> bytes:
    """Describe vectors ``(n, p)`` with their probabilities as ``example.json``."""
    rows = [[None if value != value else value for value in row] for row in vectors.tolist()]
    return json_bytes({"vectors": rows, "probabilities": list(probabilities)})


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Encode JSON that is equal for equal values."""
    return (json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _checked_bytes(folder: Path, name: str, expected: str | None) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"The artifact {folder} cannot be read: {name}: {error.strerror}. Fetch it again."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected:
        raise ArtifactError(
            f"{folder / name} was altered: its SHA-256 is {found[:16]}…, expected "
            f"{expected[:16]}…. Fetch it again."
        )
    return content
