"""The notebooks: pairs that agree, that define nothing, and that run from top to bottom."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
import pytest

from configs.settings import ROOT, Settings, load_settings
from infrastructure import embedded
from notebooks.__main__ import LONGEST_S, executed, write

FOLDER = ROOT / "notebooks"
NAMES = ("01_eda", "02_feature_engineering", "03_model_experiments")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def cells(path: Path) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def test_both_files_of_a_pair_say_the_same(name: str) -> None:
    assert cells(FOLDER / f"{name}.py") == cells(FOLDER / f"{name}.ipynb")


def test_a_notebook_imports_the_rooms_and_defines_nothing(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, kinds)] == []
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in imported if module} & {"models", "feature_store"}


def test_a_notebook_is_committed_as_it_ran_from_top_to_bottom_without_an_error(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    findings = [cell.source for cell in notebook.cells if cell.source.startswith("**")]
    assert len(findings) >= 4
    assert all(re.search(r"\d", finding) for finding in findings)


def test_a_pair_is_written_as_it_is_committed(name: str, tmp_path: Path) -> None:
    script, kept = tmp_path / f"{name}.py", tmp_path / f"{name}.ipynb"
    write(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4), script, kept)
    for written in (script, kept):
        assert written.read_text() == (FOLDER / written.name).read_text()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Servers of their own for the kernels, which start them."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("notebooks") / "var")
    yield settings
    embedded.delete(settings)


@pytest.mark.full
@pytest.mark.timeout(LONGEST_S + 60)
def test_a_notebook_runs_on_the_embedded_stack(
    name: str, stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTI_VAR_DIR", str(stack.var_dir))
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", python_path)
    committed = texts(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4))
    notebook = executed(FOLDER / f"{name}.py")  # raises when a cell does
    assert len(texts(notebook)) == len(committed)
    if name == "01_eda":  # no training in it: the same data tell the same, wherever
        assert texts(notebook) == committed


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell printed, of those that printed something."""
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", ())]
    return [each.text for each in outputs if each.get("name") == "stdout"]
