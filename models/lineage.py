"""Where a model comes from: data, features, settings, code and packages, each as one value."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.settings import ROOT
from configs.training_config import TrainingConfig
from feature_store.training_data import TrainingRows
from models.errors import TrainingRefused
from models.families import FAMILIES

ROOM = Path(__file__).parent
PACKAGES = (
    *("jax", "jaxlib", "numpy", "onnx", "onnxruntime", "pandas", "scikit-learn"),
    "xgboost-cpu",
)
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


@dataclass(frozen=True)
class Provenance:
    """When, where and from what a version came, beside its `Recipe`.

    Parameters
    ----------
    trained_at
        When its training began to read.
    parent
        The champion of that time; None when nothing served.
    python, machine, threads
        What decides, with the packages, whether a training can be repeated to the bit.
    """

    trained_at: datetime
    parent: str | None
    python: str
    machine: str
    threads: int

    @classmethod
    def here(cls, trained_at: datetime, parent: str | None) -> Provenance:
        """Describe a training in this process."""
        return cls(trained_at, parent, platform.python_version(), machine(), os.cpu_count() or 1)

    def tags(self, recipe: Recipe) -> dict[str, str]:
        """What MLflow shows of where a version comes from, with the recipe's parts."""
        settings = recipe.settings
        return {
            "trained_at": self.trained_at.isoformat(),
            "parent": self.parent or "none",
            "python": self.python,
            "machine": self.machine,
            "threads": str(self.threads),
            "start": settings["start"],
            "end": settings["end"],
            "seed": str(settings["seed"]),
            "packages": json.dumps(dict(recipe.packages), sort_keys=True),
        }


def machine() -> str:
    """Architecture and processor of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join([platform.machine(), *names[:1]])


def config_of(settings: Mapping[str, Any]) -> TrainingConfig:
    """The settings of a training from what `settings_of` gave, and an artifact keeps.

    Raises
    ------
    TrainingRefused
        If this code does not know them any more.
    """
    known = {name: settings[name] for name in TrainingConfig.model_fields if name in settings}
    try:
        return TrainingConfig(**known, **{settings["model"]: settings["params"]})
    except (KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise TrainingRefused(
            f"The recorded settings are not those of this code: {reason}. Check out the recorded "
            "commit and try again."
        ) from error


def settings_of(config: TrainingConfig) -> dict[str, Any]:
    """Give the settings of a training as JSON values: ``params`` are those of its family."""
    values = config.model_dump(mode="json", exclude={*FAMILIES, "gates", "tuning"})
    return {**values, "params": getattr(config, config.model).model_dump(mode="json")}


def code_version() -> str:
    """SHA-256, in hex, of the sources of this room."""
    digest = hashlib.sha256()
    for path in sorted(ROOM.rglob("*.py")):
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
