"""Figures tell which code they were measured with."""

from __future__ import annotations

import pytest

from benchmarks.harness.code_digest import code_digest

FORMULA = """
def double(n):
    \"\"\"Twice.\"\"\"
    return 2 * n
"""
PROGRAM = "from models.formula import double\n\nprint(double(3))\n"


@pytest.fixture
def digest(tmp_path):
    """Digests of a program whose formula lies in a file of this name and text."""
    numbered = iter(range(100))

    def of(formula: str, name: str = "formula", program: str = PROGRAM) -> str:
        root = tmp_path / str(next(numbered))
        for folder, file, text in (("models", name, formula), ("benchmarks", "run", program)):
            (root / folder).mkdir(parents=True)
            (root / folder / f"{file}.py").write_text(text)
        return code_digest("benchmarks.run", root)

    return of


def test_moves_comments_and_docstrings_keep_the_digest(digest):
    before = digest(FORMULA)
    assert digest(FORMULA + "# twice is enough") == before
    assert digest(FORMULA.replace("Twice.", "Two times.")) == before
    assert digest(FORMULA, "sums", PROGRAM.replace("formula", "sums")) == before


def test_a_changed_value_changes_the_digest(digest):
    before = digest(FORMULA)
    assert digest(FORMULA.replace("2 * n", "3 * n")) != before
    assert digest(FORMULA, program=PROGRAM.replace("3", "4")) != before


def test_code_that_is_not_reached_does_not_count(digest):
    assert digest(FORMULA, "elsewhere") == digest("other = 1", "elsewhere")
