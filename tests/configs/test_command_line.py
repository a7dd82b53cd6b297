"""The shared command line: steps, errors and --debug."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from configs.errors import FTIError
from configs.command_line import Debug, done, new_app, run

app = new_app()

@app.command()
def main(fail: bool = False, debug: Debug = False) -> None:
    done("Loaded 3 rows", seconds=0.25)
    if fail:
        raise FTIError("Column 'agee' is not known. Did you mean 'age'?")

run(app)
"""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": ".", "PATH": "", "NO_COLOR": "1", "PYTHONUTF8": "1"},
    )


def test_a_finished_step_is_a_line_with_its_seconds(tmp_path: Path) -> None:
    ended = _run(tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "✓ Loaded 3 rows (0.2 s)\n", "")


def test_an_error_is_one_line_on_stderr_and_exit_code_1(tmp_path: Path) -> None:
    ended = _run(tmp_path, "--fail")
    assert ended.returncode == 1
    assert ended.stderr == "✗ Column 'agee' is not known. Did you mean 'age'?\n"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    ended = _run(tmp_path, "--fail", "--debug")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert "FTIError: Column 'agee'" in ended.stderr
