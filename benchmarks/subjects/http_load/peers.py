"""Servers that only predict: installed on demand, each in an environment of its own.

They are sent the finished vector of 47 numbers, and answer with the native trees.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.subjects.http_load.process import Subject
from benchmarks.subjects.http_load.stage import Stage
from configs.settings import ROOT
from feature_store.feature_definitions import MODEL_VIEW

PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / "var" / "peers"
INSTALL_LIMIT_S = 300


class NotInstalled(Exception):
    """The environment of a peer cannot be made."""


def peers(stage: Stage) -> Iterator[Subject]:
    """Those that can be installed; of the others one line each says why not."""
    makers: dict[str, Callable[[Stage, Path], list[Subject]]] = {
        "mlserver": _mlserver,
        "bentoml": _bentoml,
        "mlflow": _mlflow,
    }
    for name, subjects in makers.items():
        try:
            yield from subjects(stage, environment(name))
        except NotInstalled as error:
            print(f"— {name} is left out: {error}", file=sys.stderr)


def environment(name: str) -> Path:
    """Make the environment of a peer unless it is there; give its folder of programs.

    Raises
    ------
    NotInstalled
        If uv or the packages cannot be had.
    """
    folder, wanted = ENVIRONMENTS / name, PEERS / name / "requirements.txt"
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        uv = _uv()
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        python = str(folder / "bin" / "python")
        _run([uv, "pip", "install", "--quiet", "--python", python, "-r", str(wanted)])
        shutil.copy(wanted, installed)
    return folder / "bin"


def _mlserver(stage: Stage, programs: Path) -> list[Subject]:
    def command(port: int) -> Sequence[str]:
        ports = [f"MLSERVER_{kind}_PORT={each}" for kind, each in _ports(port).items()]
        return ["env", *ports, str(programs / "mlserver"), "start", "."]

    bodies = [
        json.dumps({"inputs": [{"name": "x", "shape": [1, 47], "datatype": "FP32", "data": v}]})
        for v in stage.vectors
    ]
    return [
        Subject(
            *("mlserver", command, bodies, "/v2/models/income/infer"),
            environment=_native(stage),
            folder=PEERS / "mlserver",
        )
    ]


def _bentoml(stage: Stage, programs: Path) -> list[Subject]:
    def command(port: int) -> Sequence[str]:
        return [str(programs / "bentoml"), "serve", "service:Income", "--port", str(port)]

    bodies = [json.dumps({"features": [vector]}) for vector in stage.vectors]
    environment = _native(stage) | {
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(stage.folder / "bentoml"),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    folder = PEERS / "bentoml"
    return [Subject("bentoml", command, bodies, environment=environment, folder=folder)]


def _mlflow(stage: Stage, programs: Path) -> list[Subject]:
    """MLflow's scoring server, for the model without and with a signature."""
    names = list(MODEL_VIEW.schema.names)
    signed = stage.folder / "signed"
    shutil.copytree(stage.pyfunc, signed)
    _run([str(programs / "python"), str(PEERS / "mlflow" / "sign.py"), str(signed), *names])
    bodies = [
        json.dumps({"dataframe_split": {"columns": names, "data": [vector]}})
        for vector in stage.vectors
    ]

    def serving(model: Path) -> Callable[[int], Sequence[str]]:
        options = ("--env-manager", "local", "--workers", "1", "--port")
        mlflow = str(programs / "mlflow")
        return lambda port: [mlflow, "models", "serve", "-m", str(model), *options, str(port)]

    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return [
        Subject(name, serving(model), bodies, "/invocations", environment)
        for name, model in (("mlflow", stage.pyfunc), ("mlflow_with_signature", signed))
    ]


def _native(stage: Stage) -> dict[str, str]:
    return {"NATIVE_MODEL": str(stage.native_model)}


def _ports(port: int) -> dict[str, int]:
    """The port for HTTP and, next to it, those that MLServer cannot do without."""
    return {"HTTP": port, "GRPC": port + 1, "METRICS": port + 2}


def _uv() -> str:
    for candidate in ("uv", str(ROOT / ".tools" / "uv" / "bin" / "uv")):
        if (found := shutil.which(candidate)) is not None:
            return found
    raise NotInstalled("uv is needed; 'make install' brings it.")


def _run(command: Sequence[str]) -> None:
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or ["it gave no reason"]
        raise NotInstalled(f"{' '.join(command[:4])}… failed: {lines[-1]}")
