"""Clients that stock generators make from the document: each operation is called by them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from configs.settings import ROOT
from serving.middleware.access import new_key
from tests.worlds.serving import keys_setting, running_api

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

SOURCES = Path(__file__).parent / "clients"
TOOLS = ROOT / ".tools" / "clients"


def run(*command: str | Path, folder: Path) -> str:
    """Run a program of the tools; give what it prints."""
    path = f"{TOOLS / 'bin'}{os.pathsep}{TOOLS / 'node_modules' / '.bin'}{os.pathsep}"
    environment = os.environ | {"PATH": path + os.environ["PATH"], "PYTHONPATH": str(folder)}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return ended.stdout


@pytest.fixture(scope="module")
def tools():
    run("make", "--no-print-directory", "clients", folder=ROOT)


@pytest.fixture(scope="module")
def operator():
    return new_key()


@pytest.fixture(scope="module")
def guarded(shared_world, operator, tools):
    keys = keys_setting(operator=("admin", operator[1]))
    with running_api(shared_world, FTI_DEPLOYMENT__API__KEYS=keys) as api:
        yield api


@pytest.fixture(scope="module")
def document(guarded, tmp_path_factory):
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(guarded.get("/openapi.json").content)
    return path


def operations(document: Path) -> set[str]:
    paths = json.loads(document.read_text())["paths"].values()
    return {each["operationId"] for path in paths for each in path.values()}


def test_a_client_in_python_calls_every_operation(guarded, operator, document, tmp_path):
    options = ("--meta", "none", "--fail-on-warning", "--output-path", "generated")
    run("openapi-python-client", "generate", "--path", document, *options, folder=tmp_path)
    shutil.copy(SOURCES / "call.py", tmp_path)
    url = str(guarded.base_url).rstrip("/")
    found = json.loads(run(TOOLS / "bin" / "python", "call.py", url, operator[0], folder=tmp_path))

    assert found.keys() == operations(document)
    assert {status for status, _ in found.values()} == {200, 202}
    assert {name: kind for name, (_, kind) in found.items() if kind == "NoneType"} == {}


def test_a_client_in_typescript_calls_every_operation(guarded, operator, document, tmp_path):
    os.symlink(TOOLS / "node_modules", tmp_path / "node_modules")
    generate = ("-i", document, "-o", "generated", "-c", "@hey-api/client-fetch")
    run("openapi-ts", *generate, folder=tmp_path)
    shutil.copy(SOURCES / "call.ts", tmp_path)
    strict = ("--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable")
    run(
        *("tsc", *strict, "--module", "commonjs", "--skipLibCheck", "--outDir", "compiled"),
        "call.ts",
        folder=tmp_path,
    )
    url = str(guarded.base_url).rstrip("/")
    found = json.loads(run("node", "compiled/call.js", url, operator[0], folder=tmp_path))

    assert found.keys() == operations(document)
    assert set(found.values()) == {200, 202}
