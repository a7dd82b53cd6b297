"""Terraform's files parse, start what is there, and cost what the table says."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest
import yaml

from configs.settings import ROOT
from tests.infrastructure.programs import understood

FOLDER = ROOT / "infrastructure" / "terraform"
ECS = (FOLDER / "modules" / "ecs" / "main.tf").read_text()
MODULES = {
    *("sizing", "network", "rds-postgres", "elasticache-redis", "s3", "ecr", "ecs", "iam"),
    *("secrets", "alarms", "budget"),
}


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("costs", FOLDER / "costs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["costs"] = module
    spec.loader.exec_module(module)
    return module


def test_every_module_is_there_and_used() -> None:
    assert {each.name for each in (FOLDER / "modules").iterdir()} == MODULES
    sources = set(re.findall(r'source\s+= "\./modules/([\w-]+)"', (FOLDER / "main.tf").read_text()))
    assert sources == MODULES


def test_every_task_runs_a_command_that_exists() -> None:
    found = re.findall(r'image\s+= "([\w-]+)".*?\n\s+command\s+= \[(.*?)\]', ECS)
    assert len(found) == 8
    for image, words in found:
        understood(image, re.findall(r'"([^"]+)"', words))


def test_secrets_have_the_names_that_the_cluster_reads() -> None:
    written = set(re.findall(r"(?m)^    ([a-z-]+) +=", (FOLDER / "main.tf").read_text()))
    page = (ROOT / "infrastructure/kubernetes/overlays/prod/secrets.yaml").read_text()
    read = {
        each["remoteRef"]["key"].partition("/")[2]
        for document in yaml.safe_load_all(page)
        if document["kind"] == "ExternalSecret" and document["metadata"]["name"] == "fti-secrets"
        for each in document["spec"]["data"]
    }
    assert read <= written


def test_stores_are_private_encrypted_and_spoken_to_by_tls() -> None:
    database = (FOLDER / "modules/rds-postgres/main.tf").read_text()
    cache = (FOLDER / "modules/elasticache-redis/main.tf").read_text()
    assert re.search(r"storage_encrypted\s+= true", database)
    assert re.search(r"publicly_accessible\s+= false", database)
    assert 'name  = "rds.force_ssl"' in database
    assert "sslmode=require" in database
    assert re.search(r"transit_encryption_enabled\s+= true", cache)
    assert '"rediss://' in cache


def test_the_table_prices_the_sizes_that_are_installed(costs: ModuleType) -> None:
    sizing = (FOLDER / "modules/sizing/main.tf").read_text()
    for name, size in costs.SIZES.items():
        part = sizing[sizing.index(f"{name} = {{") :].partition("}")[0]
        values = dict(re.findall(r'(\w+)\s+= "?([\w.]+)"?', part))
        tasks, vcpu, gb = size["api"]
        _, worker_vcpu, worker_gb = size["workers"]
        assert int(values["api_tasks"]) == tasks
        assert int(values["api_cpu"]) == vcpu * 1024
        assert int(values["api_memory"]) == gb * 1024
        assert int(values["worker_cpu"]) == worker_vcpu * 1024
        assert int(values["worker_memory"]) == worker_gb * 1024
        assert values["database_class"] == size["database"]
        assert int(values["database_gb"]) == size["database_gb"]
        assert values["cache_class"] == size["cache"]


def test_the_small_one_keeps_to_the_published_limit_and_the_page_shows_the_table(costs) -> None:
    book = yaml.safe_load(costs.PRICES.read_text())
    assert book["verified"] is False
    small, large = (sum(costs.costs(load, book).values()) for load in costs.LOADS)
    assert small <= 400 < large
    page = (ROOT / "infrastructure" / "README.md").read_text()
    assert costs.table(costs.LOADS, book) in page
