"""What the papers of the house say is there."""

from __future__ import annotations

import importlib
import re
from itertools import chain

from configs.settings import ROOT


def test_every_control_names_a_test_that_exists() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::([\w*]+)`", page)
    risks = re.findall(r"(?m)^\| (?:API|ML)\d+ .*$", page)
    assert len(risks) == 20
    assert all("`tests/" in risk for risk in risks)
    for path, name in named:
        source = (ROOT / path).read_text()
        assert name == "*" or f"def {name}(" in source, f"{path}::{name}"


def test_ten_lines_are_enough_to_start() -> None:
    lines = re.findall(r"(?m)^\d+\. ", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(lines) == 10


def test_the_licence_is_one() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
    assert "Apache-2.0" in (ROOT / "README.md").read_text()


def test_every_path_that_a_page_names_is_there() -> None:
    rooms = (
        "benchmarks|configs|feature_store|infrastructure|models|monitoring|pipelines|serving|tests"
    )
    pages = chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("infrastructure/*.md"))
    absent = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in pages
        if page.name != "CHANGELOG.md"
        for path in re.findall(rf"`((?:{rooms})/[\w./-]*)`", page.read_text())
        if not (ROOT / path).exists() and path != "infrastructure/alertmanager/secrets"
    ]
    assert absent == []


def test_the_page_of_a_room_begins_with_its_sub_folders() -> None:
    pages = {room: f"docs/{room}.md" for room in ("feature_store", "models", "monitoring")}
    pages |= {room: f"docs/{room}.md" for room in ("serving", "pipelines", "infrastructure")}
    for room, page in pages.items():
        top = "\n".join((ROOT / page).read_text().splitlines()[:40])
        folders = {path.parent.name for path in (ROOT / room).glob("*/*.py")}
        missing = {name for name in folders if f"`{room}/{name}/`" not in top}
        assert not missing, f"{page} does not name {sorted(missing)}"
        assert "→" in top, f"{page} does not show the path of the data"


def test_every_import_that_a_page_shows_works() -> None:
    pages = chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"))
    rooms = "feature_store|models|monitoring|serving|pipelines"
    pattern = rf"(?m)^from ((?:{rooms})[\w.]*) import ([\w, ]+)$"
    shown = {line for page in pages for line in re.findall(pattern, page.read_text())}
    assert ("monitoring.retraining", "trigger_training_pipeline") in shown
    for module, names in shown:
        loaded = importlib.import_module(module)
        wanted = [name.split(" as ")[0] for name in names.split(", ")]
        lacking = [name for name in wanted if not hasattr(loaded, name)]
        assert not lacking, f"{module} has no {', '.join(lacking)}"
