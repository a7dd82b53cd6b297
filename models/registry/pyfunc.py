"""An artifact as a model of MLflow's pyfunc flavour: native files and one loader, no pickle."""

from __future__ import annotations

import platform
import shutil
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml

from models.artifact.artifact import ModelArtifact
from models.xgboost_model import XGBoostModel

LOADER = Path(__file__).with_name("pyfunc_loader.py")
DATA = "data/artifact"
"""Where the artifact lies in the model."""
NEEDED = ("numpy", "pandas")
"""Besides the library that answers, which depends on the family."""


def write_pyfunc(folder: Path, artifact: ModelArtifact, model_id: str) -> None:
    """Write what ``mlflow.pyfunc.load_model`` reads: its description, our loader, the artifact.

    Parameters
    ----------
    model_id
        MLflow's id of the logged model.
    """
    shutil.copytree(artifact.path, folder / DATA)
    (folder / "code").mkdir()
    shutil.copy(LOADER, folder / "code")
    python = platform.python_version()
    engine = "xgboost-cpu" if artifact.family == XGBoostModel.family else "onnxruntime"
    requirements = [f"{name}=={version(name)}" for name in ("mlflow", *NEEDED, engine)]
    environment = {"python": python, "build_dependencies": [], "dependencies": requirements}
    description = {
        "flavors": {
            "python_function": {
                "code": "code",
                "data": DATA,
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": LOADER.stem,
                "python_version": python,
                "streamable": False,
            }
        },
        "metadata": {
            "artifact_digest": artifact.digest,
            "schema_fingerprint": artifact.fingerprint,
        },
        "mlflow_version": version("mlflow"),
        "model_id": model_id,
        "model_uuid": uuid.uuid4().hex,
        "utc_time_created": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}",
    }
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    (folder / "python_env.yaml").write_text(yaml.safe_dump(environment))
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
