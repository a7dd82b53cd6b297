"""Where a model comes from: data, features, settings, code and packages, each as one value."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from configs.settings import ROOT, TrainingConfig
from feature_store.training_data import TrainingRows

ROOM = Path(__file__).parent
PACKAGES = ("numpy", "onnx", "onnxmltools", "onnxruntime", "pandas", "scikit-learn", "xgboost-cpu")
"""What decides how a model comes out, or what it needs to be loaded."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Dataset:
    """The rows that a model is trained and judged on.

    Parameters
    ----------
    name
        The feature view.
    digest
        SHA-256 in hex, of features, labels, keys and times.
    fingerprint
        Of the features' definition.
    """

    name: str
    digest: str
    fingerprint: str
    n_samples: int
    n_features: int

    @classmethod
    def of(cls, rows: TrainingRows) -> Dataset:
        """Describe rows; equal rows in equal order have equal digests."""
        features, schema = rows.features, rows.features.schema
        digest = hashlib.sha256(schema.fingerprint.encode())
        for column in (features.keys, features.times, features.values, rows.labels):
            digest.update(column.tobytes())
        return cls(schema.view, digest.hexdigest(), schema.fingerprint, len(rows), len(schema))


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a model comes out.

    Parameters
    ----------
    settings
        The training settings as JSON values, with the hyper-parameters of one family.
    code
        SHA-256 of the sources of this room.
    packages
        Name to version.
    """

    dataset: Dataset
    settings: Mapping[str, Any]
    code: str
    packages: Mapping[str, str]

    @classmethod
    def of(cls, rows: TrainingRows, config: TrainingConfig) -> Recipe:
        """Gather what a training of these rows depends on."""
        return cls(Dataset.of(rows), settings_of(config), code_version(), package_versions())

    @property
    def training_key(self) -> str:
        """SHA-256 in hex; trainings with equal keys give equal models on the same machine."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def settings_of(config: TrainingConfig) -> dict[str, Any]:
    """Give the settings of a training as JSON values: ``params`` are those of its family."""
    values = config.model_dump(mode="json", exclude={"xgboost", "tuning"})
    return {**values, "params": getattr(config, config.model).model_dump(mode="json")}


def code_version() -> str:
    """SHA-256, in hex, of the sources of this room."""
    digest = hashlib.sha256()
    for path in sorted(ROOM.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that matter, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path = ROOT) -> str:
    """The commit of the code, with ``+changes`` where tracked files differ; or ``unknown``."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return UNKNOWN
    return f"{commit}+changes" if _git(folder, "status", "--porcelain", "-uno") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        ended = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()
