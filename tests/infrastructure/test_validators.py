"""The manifests before the real programs that read them; `make validators` installs those."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from configs.settings import ROOT

pytestmark = pytest.mark.full
FOLDER = ROOT / "infrastructure"
OVERLAYS = ("dev", "prod")
VERSIONS = ("1.34", "1.35", "1.36")
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ExternalSecret"}
"""Kinds of other projects' operators, for which Kubernetes has no schema."""


def run(command: Sequence[str | Path], **more: object) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Tools:
    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / "validators" / "bin" / name

    @property
    def compose(self) -> Path:
        """The program itself: the package's wrapper always ends with 0."""
        found = (self.folder / "validators" / "lib").rglob("compose/docker-compose")
        return next(iter(found))

    @property
    def checkov(self) -> list[str | Path]:
        config = FOLDER / "checkov.yaml"
        return [self.folder / "checkov" / "bin" / "checkov", "--config-file", config]


@pytest.fixture(scope="module")
def tools() -> Tools:
    run(["make", "--no-print-directory", "validators"])
    return Tools(ROOT / ".tools")


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request, tools: Tools, tmp_path_factory) -> Path:
    overlay = FOLDER / "kubernetes" / "overlays" / request.param
    path = tmp_path_factory.mktemp("rendered") / f"{request.param}.yaml"
    path.write_text(run([tools["kubectl"], "kustomize", overlay]))
    return path


def system_tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH")
    return found


def test_hadolint_finds_nothing_in_the_dockerfiles(tools: Tools) -> None:
    run([tools["hadolint"], FOLDER / "Dockerfile"])


def test_compose_reads_its_file_from_the_root_and_asks_for_secrets(tools: Tools, tmp_path) -> None:
    example = (ROOT / ".env.example").read_text()
    secrets = tmp_path / "env"
    secrets.write_text(re.sub(r"(?m)^(\w+_PASSWORD=)$", r"\1only-a-test", example))
    command = [tools.compose, "--env-file", secrets, "--profile", "full", "config", "--format=yaml"]
    services = yaml.safe_load(run(command))["services"]
    written = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]
    assert set(services) == set(written) >= {"postgres", "redis", "roles", "migrate", "api"}
    assert services["api"]["read_only"]
    for profile in ("core", "full"):
        without = [tools.compose, "--env-file", os.devnull, "--profile", profile, "config", "-q"]
        refused = subprocess.run(without, cwd=ROOT, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "run 'make .env'" in refused.stderr


def test_kubernetes_accepts_every_resource(tools: Tools, rendered: Path) -> None:
    resources = list(yaml.safe_load_all(rendered.read_text()))
    custom = [each for each in resources if each["kind"] in CUSTOM]
    checked = rendered.with_suffix(".checked.yaml")
    checked.write_text(yaml.safe_dump_all([e for e in resources if e not in custom]))
    for version in VERSIONS:
        said = run([tools["kubernetes-validate"], "-k", version, "--strict", checked])
        assert said.count("passed") == len(resources) - len(custom), said


def test_kustomize_fills_in_what_the_overlays_change(rendered: Path) -> None:
    resources = list(yaml.safe_load_all(rendered.read_text()))
    named = {(each["kind"], each["metadata"]["name"]): each for each in resources}
    api = named["Deployment", "ml-inference"]["spec"]
    [container] = api["template"]["spec"]["containers"]
    [config] = [e["configMapRef"]["name"] for e in container["envFrom"]]
    assert ("ConfigMap", config) in named
    assert config.startswith("fti-config-")
    keys = {e["name"]: e for e in container["env"]}["FTI_DEPLOYMENT__API__KEYS"]["valueFrom"]
    is_prod = rendered.stem == "prod"
    assert keys["secretKeyRef"].get("optional", False) is not is_prod
    assert api["replicas"] == (3 if is_prod else 1)
    assert ("StatefulSet", "postgres") in named or is_prod


@pytest.mark.parametrize(
    "what",
    [
        ("--framework", "dockerfile", "--file", "infrastructure/Dockerfile"),
        ("--framework", "github_actions", "--directory", ".github"),
        ("--framework", "terraform", "--directory", "infrastructure/terraform"),
    ],
)
def test_checkov_finds_only_what_is_waived(tools: Tools, what: tuple[str, ...]) -> None:
    run([*tools.checkov, *what])


def test_checkov_finds_only_what_is_waived_in_the_cluster(tools: Tools, rendered: Path) -> None:
    run([*tools.checkov, "--framework", "kubernetes", "--file", rendered])


def test_prometheus_accepts_rules_and_configuration() -> None:
    promtool = system_tool("promtool")
    rules = sorted((FOLDER / "prometheus" / "rules").glob("*.yml"))
    run([promtool, "check", "rules", *rules])
    run([promtool, "check", "config", FOLDER / "prometheus" / "prometheus.yml"])


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    tests = sorted((FOLDER / "prometheus" / "tests").glob("*.yml"))
    assert "SUCCESS" in run([system_tool("promtool"), "test", "rules", *tests])


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (("severity=critical", "team=platform"), "on-call"),
        (("severity=critical", "team=model"), "on-call-models"),
        (("severity=critical", "team=data"), "on-call"),
        (("severity=warning", "team=model"), "models"),
        (("severity=warning", "team=data"), "data"),
        (("severity=warning", "team=platform"), "chat"),
    ],
)
def test_alerts_reach_who_should_act(labels: tuple[str, ...], receivers: str) -> None:
    amtool, config = system_tool("amtool"), FOLDER / "alertmanager" / "alertmanager.yml"
    run([amtool, "check-config", config])
    routed = ["config", "routes", "test", f"--config.file={config}"]
    run([amtool, *routed, f"--verify.receivers={receivers}", *labels])


def test_actionlint_finds_nothing_in_the_workflows(tools: Tools) -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    path = f"{tools.folder / 'validators' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run([tools["actionlint"], *workflows], env={**os.environ, "PATH": path})


def test_terraform_files_parse(tools: Tools) -> None:
    folder = FOLDER / "terraform"
    files = [*folder.rglob("*.tf"), *folder.rglob("*.tftest.hcl")]
    assert len(files) > 12
    for path in files:
        run([tools["hcl2tojson"], path])
