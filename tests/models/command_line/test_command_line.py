"""``python -m models`` on a real registry: what people see, programs get, and is refused."""

import json
import re
from datetime import timedelta

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from configs.errors import FTIError
from models.__main__ import app
from models.errors import UnknownModel
from tests.worlds.models import POOR, World


class Shell:
    """Runs commands in this process, in a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command; errors are raised."""
        environment = self.world.environment()
        result = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stdout

    def data(self, *arguments: str, code: int = 0):
        """What a command prints with ``--json``."""
        return json.loads(self.run(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def shell(shared_world: World) -> Shell:
    """Two deployments and one failure have happened."""
    first = shared_world.train()
    shared_world.promoter.deploy(first, "the first")
    second = shared_world.train(seed=102, n_estimators=60)
    shared_world.promoter.deploy(second, "a better one")
    shared_world.train(**POOR)
    return Shell(shared_world)


@pytest.fixture(scope="module")
def labels(shell: Shell) -> list[str]:
    return [each.label for each in shell.world.registry.versions()]


def test_list_gives_stage_aliases_gates_metrics_and_age(shell, labels):
    newest, second, first = shell.data("list")
    assert [newest["version"], second["version"], first["version"]] == labels[::-1]
    assert (first["stage"], first["aliases"], first["gates"]) == ("Archived", [], "passed")
    assert (second["stage"], second["aliases"]) == ("Production", ["production"])
    assert (newest["stage"], newest["gates"]) == ("None", "failed")
    assert 0.7 < second["metrics"]["accuracy"] < 0.9
    assert 0 < second["age"] < 3_600
    printed = shell.run("list")
    assert re.search(rf"^{labels[1]} +Production +production +passed +0\.8", printed, re.MULTILINE)


def test_show_gives_where_a_version_comes_from_and_what_became_of_it(shell, labels):
    shown = shell.data("show", labels[1])
    lineage = shown["lineage"]
    assert lineage["parent"] == labels[0]
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", lineage["git_commit"])
    assert len(lineage["dataset_digest"]) == 64
    assert len(lineage["schema_fingerprint"]) == 16
    assert (lineage["seed"], lineage["start"][:10], lineage["end"][:10]) == (
        *("102", "2020-01-01", "2024-01-01"),
    )
    assert shown["packages"]["numpy"]
    assert shown["settings"]["params.n_estimators"] == 60
    assert shown["gates"]["passed"] is True
    assert shown["gates"]["champion"] == labels[0]
    assert {"model.onnx", "config.json"} <= {file["file"] for file in shown["files"]}
    [deployment] = shown["deployments"]
    assert (deployment["generation"], deployment["reason"]) == (2, "a better one")
    assert shown["stages"][0]["path"] == ["None", "Staging", "Production"]
    printed = shell.run("show", labels[1])
    for title in ("Lineage", "Packages", "Metrics", "Gates: passed against", "Files"):
        assert f"\n{title}" in printed


def test_compare_gives_differences_with_intervals_on_the_same_rows(shell, labels):
    found = shell.data("compare", labels[1], labels[2])
    for metric in ("log_loss", "roc_auc", "brier", "accuracy_at_threshold", "f1_score"):
        values = found["metrics"][metric]
        assert values["difference"] == pytest.approx(values["second"] - values["first"])
        assert values["low"] <= values["difference"] <= values["high"]
    assert found["metrics"]["log_loss"]["low"] > 0  # the poor one is worse beyond chance
    assert found["settings"]["params.n_estimators"] == [60, 2]
    assert found["settings"]["seed"] == [102, 101]
    assert found["packages"] == {}
    assert found["features"] == []
    assert "held-out rows that neither model learned from" in found["rows"]
    assert "Packages that differ: none" in shell.run("compare", labels[1], labels[2])


def test_a_version_equals_itself(shell, labels):
    found = shell.data("compare", labels[0], labels[0])
    assert {each["difference"] for each in found["metrics"].values()} == {0}
    assert (found["settings"], found["lineage"]) == ({}, {})


def test_history_tells_everything_in_order(shell, labels):
    events = shell.data("history")
    kinds = [(event["kind"], event["version"]) for event in events]
    assert kinds[:2] == [("deployment", labels[0]), ("stage", labels[0])]
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    assert "generation 2, deploy" in shell.run("history")


def test_as_of_answers_which_version_was_in_production(shell, labels):
    first, second = shell.world.promoter.store.history()
    for record, label in ((first, labels[0]), (second, labels[1])):
        moment = record.created_at + timedelta(microseconds=1)
        found = shell.data("history", "--as-of", moment.isoformat())
        assert (found["champion"], found["generation"]) == (label, record.generation)
    before = shell.data("history", "--as-of", "2020-01-01")
    assert (before["champion"], before["arms"]) == (None, [])
    assert "Nothing was in production at 2020-01-01" in shell.run(
        "history", "--as-of", "2020-01-01"
    )


def test_judge_says_what_each_gate_says(shell, labels):
    decision = shell.data("judge", labels[2], code=1)
    gates = {each["gate"]: each["passed"] for each in decision["results"]}
    assert not gates["log_loss"]
    assert gates["parity"]
    assert decision["champion"] == labels[1]
    assert "failed" in shell.run("judge", labels[2], code=1)
    assert shell.data("judge", labels[0])["passed"]


def test_an_unknown_version_is_one_line_with_the_nearest(shell, labels):
    wrong = labels[0].replace("-xgb-", "-xbg-")
    with pytest.raises(UnknownModel, match=f"Did you mean '{labels[0]}'"):
        shell.run("show", wrong)
    with pytest.raises(FTIError, match="'tomorrow' is not a date"):
        shell.run("history", "--as-of", "tomorrow")


def test_verify_finds_nothing_then_each_thing_that_is_wrong(shell, labels):
    world = shell.world
    assert shell.data("verify") == {"versions_checked": 3, "findings": []}
    url = str(world.settings.mlflow_tracking_uri)
    client, name = MlflowClient(url, url), world.settings.model_name
    client.set_registered_model_alias(name, "production", "1")
    client.set_model_version_tag(name, "3", "stage", "Staging")
    client.set_model_version_tag(name, "1", "artifact_digest", "0" * 64)
    findings = shell.data("verify", code=1)["findings"]

    assert {
        "version": labels[0],
        "finding": f"alias production points to {labels[0]}; recorded is {labels[1]}",
    } in findings
    told = {each["version"]: each["finding"] for each in findings}
    assert told[labels[2]].startswith(("MLflow's tag stage is Staging; recorded is None", "it is"))
    assert any("is not the registered one" in each["finding"] for each in findings)
    assert "findings" in shell.run("verify", code=1)


@pytest.mark.full
def test_errors_are_one_line_and_the_pipe_is_plain_text(shell):
    ended = shell.world.start("-m", "models", "show", "nobody-v1")
    _, errors = ended.communicate(timeout=60)
    assert ended.returncode == 1
    assert errors.startswith("✗ There is no model version 'nobody-v1'.")
    assert errors.count("\n") == 1
    ended = shell.world.start("-m", "models", "--json", "list")
    printed, _ = ended.communicate(timeout=60)
    assert len(json.loads(printed)) == 3


def test_the_list_of_commands_says_of_each_what_its_own_help_says():
    commands = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    names = re.findall(r"^│ ([a-z]+) ", commands, re.MULTILINE)
    assert names == ["list", "show", "compare", "history", "verify", "judge", "watch", "mirror"]
    for name in names:
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout
        purpose = shown.strip().splitlines()[2].strip()
        assert purpose in commands
