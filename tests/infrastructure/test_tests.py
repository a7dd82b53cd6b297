"""Tests import along the arrows, and what several of them share lives in ``tests/worlds``."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from configs.settings import ROOT

ROOMS = ["configs", "feature_store", "models", "monitoring", "serving", "pipelines"]
"""Lowest first. Infrastructure stands beside them: its manifests run programs of every room."""
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Modules that a file imports, and names in them that may be modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return frozenset(found)


@cache
def height(module: str) -> int:
    """The place of the highest room that a module belongs to or, as a shared one, uses."""
    room, path = module.partition(".")[0], ROOT / f"{module.replace('.', '/')}.py"
    if room in ROOMS:
        return ROOMS.index(room)
    if room not in ("tests", "benchmarks") or not path.exists():
        return 0
    return max((height(each) for each in imports_of(path)), default=0)


def test_nobody_imports_a_test_or_a_conftest() -> None:
    imported = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in TESTS
        for module in imports_of(path)
        if module.startswith("tests.") and (ROOT / f"{module.replace('.', '/')}.py").exists()
        if module.rpartition(".")[2].startswith(("test_", "conftest"))
    }
    assert imported == set()


def test_what_rooms_share_lives_in_worlds() -> None:
    borrowed = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in TESTS
        for module in imports_of(path)
        if module.count(".") > 1 and module.split(".")[0] == "tests"
        if module.split(".")[1] not in ("worlds", path.relative_to(ROOT).parts[1])
    }
    assert borrowed == set()


def test_no_test_imports_against_the_arrows() -> None:
    above = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in TESTS
        if (room := path.relative_to(ROOT).parts[1]) in ROOMS
        for module in imports_of(path)
        if height(module) > ROOMS.index(room)
    }
    assert above == set()
