"""The manifest of batch inference: what it runs exists, and takes the options that it gives."""

from __future__ import annotations

from pathlib import Path

import typer
import yaml

from configs.settings import ROOT
from pipelines import inference_pipeline

FOLDER = ROOT / "infrastructure" / "kubernetes" / "spark"


def test_the_job_runs_the_pipeline_with_options_that_it_has() -> None:
    documents = list(yaml.safe_load_all((FOLDER / "batch-inference.yaml").read_text()))
    [job] = [each for each in documents if each["kind"] == "CronJob"]
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [driver] = pod["containers"]
    [script] = [arg for arg in driver["args"] if arg.endswith(".py")]
    assert (ROOT / script.removeprefix("/app/")).exists()
    given = driver["args"][driver["args"].index(script) + 1 :]
    command = typer.main.get_command(inference_pipeline.app)
    assert command.make_context("inference_pipeline", given).params["resume"] is True
    accounts = [each["metadata"]["name"] for each in documents if each["kind"] == "ServiceAccount"]
    assert pod["serviceAccountName"] in accounts


def test_the_image_copies_what_is_there() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert all((ROOT / Path(name)).exists() for name in copied)
