"""The API's image: its build followed by hand, and what it holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from configs.settings import ROOT
from infrastructure.servers import ports
from tests.infrastructure.dockerfile import only, stages
from tests.worlds.serving import new_world

LARGEST_MB = 350
HEAVY = {
    "evidently",
    "fairlearn",
    "feast",
    "jax",
    "mlflow",
    "pandas",
    "polars",
    "pyspark",
    "xgboost",
}


def test_every_target_runs_without_rights_and_says_how_it_is() -> None:
    assert {"api", "pipelines", "mlflow", "airflow"} <= stages().keys()
    for target in ("api", "pipelines"):
        assert only("USER", target) == ["10001:10001"]
    for target in ("api", "mlflow", "airflow"):
        assert len(only("HEALTHCHECK", target)) == 1
    assert only("FROM", "mlflow")[0].startswith("pipelines ")


def test_the_image_copies_what_is_there() -> None:
    for each in (rest for stage in stages() for rest in only("COPY", stage)):
        if not each.startswith("--from"):
            *sources, _ = each.split()
            assert all((ROOT / source).exists() for source in sources), each


@pytest.mark.full
def test_a_prediction_is_served_from_what_the_api_stage_installs(
    settings, tmp_path, monkeypatch
) -> None:
    # Where the Makefile puts it, unless there is another.
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{ROOT / '.tools' / 'uv' / 'bin'}")
    if shutil.which("uv") is None:
        pytest.skip("uv is not on PATH")
    places = {"/opt/fti": tmp_path / "opt", "/dist": tmp_path / "dist", "/src": tmp_path / "src"}
    checkout = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in checkout.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).is_file():
            target = places["/src"] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    for step in (*only("RUN", "wheel"), *only("RUN", "api-environment")):
        command = re.sub(r"(?<![\w.])(/opt/fti|/dist|/src)", lambda m: str(places[m[1]]), step)
        subprocess.run(command, shell=True, cwd=places["/src"], check=True)

    packages = next((places["/opt/fti"] / "lib").glob("python3.*")) / "site-packages"
    present = {each.name.partition(".")[0].lower() for each in packages.iterdir()}
    assert present & HEAVY == set()
    size_mb = sum(f.stat().st_size for f in places["/opt/fti"].rglob("*") if f.is_file()) / 1e6
    print(f"installed: {size_mb:.0f} MB")
    assert size_mb <= LARGEST_MB

    with new_world(settings, tmp_path) as world:
        world.deploy(1)
        answer = predict(places["/opt/fti"] / "bin" / "python", world.api_environment(), tmp_path)
    assert answer["model_version"] == "income-xgb-v1"
    assert 0 < answer["probability"] < 1


def predict(python: Path, environment: dict[str, str], folder: Path) -> dict[str, object]:
    """Start the API as the image does, on another port, and ask for one prediction."""
    [entry], [arguments] = only("ENTRYPOINT", "api"), only("CMD", "api")
    taken = ports.take_any(listening=False)
    port = str(taken.number)
    command = [*json.loads(entry), *json.loads(arguments)]
    command = [port if part == "8000" else part for part in command]
    command = [str(python) if part == "python" else part for part in command]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(command, cwd=folder, env=kept | environment)
    try:
        return until_answered(f"http://127.0.0.1:{port}")
    finally:
        taken.close()
        process.terminate()
        assert process.wait(30) == 0


def until_answered(url: str) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"{url}/ready").status_code == 200:
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)
    answer = httpx.post(f"{url}/predict", json={"user_id": 1})
    assert answer.status_code == 200, answer.text
    return answer.json()
