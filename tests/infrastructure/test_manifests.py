"""Compose, Kubernetes and Prometheus name what is there: commands, ports, settings, runbooks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.settings import ROOT, _refuse_unknown_environment, load_settings
from infrastructure import dashboards
from serving.process.ship import _parse as parse_ship
from tests.infrastructure.dockerfile import only
from tests.infrastructure.programs import understood

FOLDER = ROOT / "infrastructure"
BASE = FOLDER / "kubernetes" / "base"
TARGETS = {
    "fti-airflow": "airflow",
    "fti-mlflow": "mlflow",
    "fti-pipelines": "pipelines",
    "ml-inference": "api",
}
OURS = TARGETS.keys()
ROLE_PASSWORDS = {
    f"DATABASE_{each}_PASSWORD" for each in ("OWNER", "PIPELINES", "API", "MLFLOW", "AIRFLOW")
}
AIRFLOW_RECORDS = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC",
}
NOT_SETTINGS = {
    *("BATCH_OUTPUT", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_SERVER_ALLOWED_HOSTS"),
    *ROLE_PASSWORDS,
    *AIRFLOW_RECORDS,
}
KNOWN = {"DATABASE_URL", "MLFLOW_DATABASE_URL", "REDIS_URL", "MLFLOW_TRACKING_URI", "MODEL_NAME"}


def documents(folder: Path = BASE) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        found += [each for each in yaml.safe_load_all(path.read_text()) if each]
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each workload's name with the specification of its pods."""
    for each in documents():
        spec = each.get("spec", {})
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec and "spec" in spec["template"]:
            yield each["metadata"]["name"], spec["template"]["spec"]


def of_kind(kind: str, name: str) -> dict[str, Any]:
    [found] = [e for e in documents() if (e["kind"], e["metadata"]["name"]) == (kind, name)]
    return found


def compose() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]


def our_containers() -> list[tuple[str, str, list[str]]]:
    found = []
    for name, pod in pods():
        for container in pod["containers"]:
            image = container["image"].partition(":")[0]
            if image in OURS and "args" in container:
                found.append((f"kubernetes {name}", image, container["args"]))
    for name, service in compose().items():
        image = service["image"].partition(":")[0]
        if image in OURS:
            found.append((f"compose {name}", image, service["command"]))
    return found


@pytest.mark.parametrize(("where", "image", "words"), our_containers())
def test_every_command_exists_and_takes_its_options(where: str, image: str, words: list[str]):
    understood(image, [str(word) for word in words])


def test_the_images_own_commands_exist() -> None:
    for image, target in TARGETS.items():
        [command] = only("CMD", target)
        words = yaml.safe_load(command)
        if "--help" not in words:
            understood(image, words)


def environments() -> Iterator[tuple[str, dict[str, str]]]:
    [generated] = yaml.safe_load((BASE / "kustomization.yaml").read_text())["configMapGenerator"]
    yield "ConfigMap", dict(literal.split("=", 1) for literal in generated["literals"])
    for name, pod in pods():
        for container in pod["containers"]:
            if container["image"].partition(":")[0] in OURS:
                yield name, {e["name"]: e.get("value", "") for e in container.get("env", ())}
    for name, service in compose().items():
        if service["image"].partition(":")[0] in OURS:
            yield f"compose {name}", service["environment"]


def test_every_variable_is_a_setting() -> None:
    for where, environment in environments():
        unknown = {n for n in environment if not n.startswith("FTI_")} - KNOWN - NOT_SETTINGS
        assert unknown == set(), where
        _refuse_unknown_environment(environment)
    keys = "FTI_DEPLOYMENT__API__KEYS"
    assert any(keys in environment for _, environment in environments())
    assert "keys" in type(load_settings().deployment.api).model_fields


def test_the_api_runs_in_the_cluster_as_users_were_told() -> None:
    deployment = of_kind("Deployment", "ml-inference")["spec"]
    pod = deployment["template"]["spec"]
    [api] = pod["containers"]
    assert (deployment["replicas"], api["name"], api["image"]) == (3, "api", "ml-inference:v1")
    environment = {each["name"]: each.get("value") for each in api["env"]}
    assert environment["MODEL_NAME"] == load_settings().model_name == "income-predictor"
    assert environment["REDIS_URL"] == "redis://feature-store:6379"
    assert of_kind("Service", "feature-store")["spec"]["ports"][0]["port"] == 6379
    assert api["ports"][0]["containerPort"] == load_settings().deployment.api.port == 8000
    requests, limits = api["resources"]["requests"], api["resources"]["limits"]
    assert (requests["memory"], requests["cpu"]) == ("512Mi", "500m")
    assert (limits["memory"], limits["cpu"]) == ("1Gi", "1")
    live = api["livenessProbe"]
    assert (live["initialDelaySeconds"], live["periodSeconds"]) == (30, 10)
    [_, _, before_stop] = api["lifecycle"]["preStop"]["exec"]["command"]
    words = before_stop.partition("python -m serving ship ")[2].split()
    assert parse_ship(words).limit_s + 5 + 15 < pod["terminationGracePeriodSeconds"]
    [mount] = [each for each in api["volumeMounts"] if each["name"] == "spool"]
    assert mount["mountPath"] == "/var/lib/fti"


def test_probes_ask_what_the_programs_answer() -> None:
    paths = {
        "ml-inference": {"/health", "/ready"},
        "mlflow": {"/health"},
        "monitoring": {"/metrics"},
    }
    for name, pod in pods():
        asked = {
            container[probe]["httpGet"]["path"]
            for container in pod["containers"]
            for probe in ("livenessProbe", "readinessProbe", "startupProbe")
            if "httpGet" in container.get(probe, {})
        }
        assert asked == paths.get(name, set()), name
    from feature_store.feature_definitions import MODEL_VIEW
    from serving.api import create_app
    from serving.connect import prediction_service

    app = create_app(prediction_service(load_settings()), MODEL_VIEW)
    served = {getattr(route, "path", "") for route in app.routes}
    assert paths["ml-inference"] | {"/metrics"} <= served
    ingress = of_kind("Ingress", "ml-inference")["spec"]["rules"][0]["http"]["paths"]
    assert {each["path"] for each in ingress} <= served
    port = load_settings().monitoring.metrics_port
    assert of_kind("Service", "monitoring")["spec"]["ports"][0]["port"] == port


def test_every_pod_is_restricted_has_limits_and_no_token() -> None:
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"], name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name


def test_what_a_pod_uses_is_what_its_labels_open() -> None:
    deny = of_kind("NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed = {
        label
        for each in documents()
        if each["kind"] == "NetworkPolicy" and "Egress" in each["spec"]["policyTypes"]
        for label in each["spec"]["podSelector"].get("matchLabels", {})
    }
    used = set(re.findall(r"fti/uses-[a-z-]+", "".join(p.read_text() for p in BASE.glob("*.yaml"))))
    assert used <= allowed


def test_no_secret_is_written_down() -> None:
    secret = re.compile(r"(PASSWORD|KEY|TOKEN)\w*[ ]*[=:][ ]*[\"']?[A-Za-z0-9/+]{6,}")
    text = (FOLDER / "docker-compose.yml").read_text() + (ROOT / ".env.example").read_text()
    text += "".join(p.read_text() for p in (FOLDER / "kubernetes").rglob("*.yaml"))
    assert [m[0] for m in secret.finditer(text) if "secret" not in m[0].lower()] == []
    assert re.findall(r"(?m)^\w+_PASSWORD=(.*)$", (ROOT / ".env.example").read_text()) == [""] * 8


def test_each_part_has_the_database_role_that_is_its_own() -> None:
    found: dict[str, str] = {}
    for name, service in compose().items():
        environment = service.get("environment", {})
        url = environment.get("DATABASE_URL") or environment.get("MLFLOW_BACKEND_STORE_URI")
        if url:
            found[name] = url.partition("//")[2].partition(":")[0]
    assert found.pop("roles") == "fti"
    assert found.pop("migrate") == "fti_owner"
    assert found.pop("api") == "fti_api"
    assert found.pop("mlflow") == "fti_mlflow"
    airflow = compose()["airflow"]["environment"]
    for name in AIRFLOW_RECORDS:
        assert "//fti_airflow:" in airflow[name]
    assert set(found.values()) == {"fti_pipelines"}
    keys = {
        name: variable["valueFrom"]["secretKeyRef"]["key"]
        for name, pod in pods()
        for container in pod["containers"]
        for variable in container.get("env", ())
        if variable["name"] == "DATABASE_URL"
    }
    assert keys.pop("roles") == "DATABASE_URL_ADMIN"
    assert keys.pop("migrate") == keys.pop("partitions") == "DATABASE_URL_OWNER"
    assert keys.pop("ml-inference") == "DATABASE_URL_API"
    assert set(keys.values()) == {"DATABASE_URL_PIPELINES"}


def test_health_decides_the_order_of_starts() -> None:
    services = compose()
    for name, service in services.items():
        assert set(service["profiles"]) <= {"core", "full"}
        assert "healthcheck" in service or service.get("restart") == "no", name
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
            assert set(service["profiles"]) <= set(services[needed]["profiles"]), name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
    core = {name for name, service in services.items() if "core" in service["profiles"]}
    assert core == {"postgres", "redis", "roles", "migrate", "mlflow", "api"}
    assert services.keys() - core == {
        *("stream", "monitoring", "airflow", "prometheus", "alertmanager", "grafana"),
    }


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_alert_has_a_runbook_a_team_and_a_severity() -> None:
    alerts = [
        rule
        for path in (FOLDER / "prometheus" / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert len(alerts) >= 20
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert anchor in anchors(ROOT / page), alert["alert"]
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["labels"]["team"] in {"platform", "data", "model"}


def test_dashboards_and_the_rule_of_the_operator_are_up_to_date(capsys) -> None:
    assert dashboards.main(["--check"]) == 0, capsys.readouterr().out
