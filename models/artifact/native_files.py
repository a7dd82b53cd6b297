"""Native files of models that are written here: arrays without pickle, and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FeatureSchema
from models.errors import ArtifactError


def read_about(path: Path, schema: FeatureSchema) -> dict[str, Any]:
    """Read the JSON that describes a model of features of this schema.

    Raises
    ------
    ArtifactError
        If the file is not there, is no such JSON, or describes a model of other features.
    """
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        fingerprint = about["schema_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"Cannot read the model {path}: {error!r}. Train again.") from error
    if fingerprint != schema.fingerprint:
        raise ArtifactError(
            f"{path} was trained on schema {fingerprint}; given is {schema.fingerprint}. "
            "Train again with the present features."
        )
    return about


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an NPZ file; one with a pickle in it is refused.

    Raises
    ------
    ArtifactError
        If it is not there or not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # damaged archives raise errors of many types
        raise ArtifactError(f"Cannot read the arrays {path}: {error!r}. Train again.") from error
