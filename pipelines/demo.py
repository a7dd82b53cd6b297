"""The whole system once, from raw rows to answered predictions: what `make demo` runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import httpx
import typer

from configs.command_line import Debug, new_app, run
from configs.errors import FTIError
from configs.settings import ROOT, load_settings
from infrastructure import embedded

app = new_app()
BY_USER: dict[str, Any] = {"user_id": 12345}
BY_ATTRIBUTES: dict[str, Any] = {
    **{"age": 35, "workclass": "Private", "education": "Bachelors"},
    **{"occupation": "Tech-support", "hours-per-week": 40},
}


class DemoFailed(FTIError):
    """A step of the demo ended with an error; it has said which."""


@app.command()
def demo(debug: Debug = False) -> None:
    """Start everything, compute features, train, deploy, serve, predict, and score all users.

    A second run uses what is there: features that have not changed are not stored again, and no
    second identical model is trained.
    """
    headline("Servers")
    command("-m", "infrastructure", "up")
    headline("Features")
    command("pipelines/feature_pipeline.py", "--mode", "batch")
    headline("Training")
    training = ["--experiment-name", "income-prediction", "--model", "xgboost", "--reuse"]
    printed = command("pipelines/training_pipeline.py", *training)
    label = find_after(printed, "Model registered: ").split()[0]
    headline("Deployment")
    printed = command(
        *("pipelines/deployment.py", "--model-name", label),
        *("--stage", "production", "--enable-ab-test"),
    )
    endpoint = find_after(printed, "API endpoint: ")
    headline("Predictions")
    curl(endpoint, BY_USER)
    curl(endpoint, BY_ATTRIBUTES)
    headline("Batch")
    command("pipelines/inference_pipeline.py")
    farewell(endpoint.removesuffix("/predict"))


def headline(text: str) -> None:
    """Print the name of the next part."""
    typer.secho(f"\n── {text} " + "─" * (72 - len(text)), bold=True)


def command(*arguments: str) -> list[str]:
    """Show and run one of our commands; return the lines that it printed.

    Raises
    ------
    DemoFailed
        If it ends with an error.
    """
    typer.secho(f"$ python {' '.join(arguments)}", dim=True)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line.rstrip())
    if process.wait() != 0:
        raise DemoFailed(
            f"`python {' '.join(arguments)}` ended with {process.returncode}; its message is above."
        )
    return lines


def find_after(lines: list[str], after: str) -> str:
    """The rest of the line that holds ``after``.

    Raises
    ------
    DemoFailed
        If no line does.
    """
    for line in lines:
        _, marker, rest = line.partition(after)
        if marker:
            return rest
    raise DemoFailed(f"No line says '{after.strip()}'; see the output above.")


def curl(url: str, body: dict[str, Any]) -> None:
    """Show a request as a curl command, send it, and show the answer.

    Raises
    ------
    DemoFailed
        If the API does not answer, or not with a prediction.
    """
    json_type = "Content-Type: application/json"
    typer.secho(f"$ curl -X POST {url} -H '{json_type}' -d '{json.dumps(body)}'", dim=True)
    problem = f"{url} did not answer with a prediction; its log: make status"
    try:
        answer = httpx.post(url, json=body, timeout=10).text
    except httpx.HTTPError as error:
        raise DemoFailed(problem) from error
    print(answer)
    if '"prediction"' not in answer:
        raise DemoFailed(problem)


def farewell(api: str) -> None:
    """Say what runs where, and how to stop it."""
    tracking = embedded.mlflow_url(load_settings())
    headline("Running")
    print(f"  Predictions   {api}/predict")
    print(f"  API docs      {api}/docs")
    print(f"  Metrics       {api}/metrics")
    print(f"  MLflow        {tracking}")
    print("\n  make status   what runs, and where its log is")
    print("  make down     stop everything; the data stays in var/")


if __name__ == "__main__":
    run(app)
