"""``python -m infrastructure``, run as a user runs it, with a server elsewhere for each but one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from configs.settings import ROOT, Settings

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(own: Settings, database_url: str) -> Run:
    """Runs a command with a database elsewhere and an MLflow elsewhere."""
    elsewhere = {"DATABASE_URL": database_url, "MLFLOW_TRACKING_URI": "http://m"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infrastructure", *arguments],
            cwd=ROOT,
            env={**os.environ, "FTI_VAR_DIR": str(own.var_dir), **elsewhere},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_up_twice_then_status_then_down_twice(own: Settings, run: Run, database_url: str) -> None:
    first = run("up").stdout
    assert "✓ postgres: elsewhere, as configured" in first
    assert "✓ valkey: started in" in first
    second = run("up").stdout
    assert "✓ valkey: runs already" in second
    assert second.endswith("Nothing had to be started.\n")
    shown = run("status").stdout
    assert str(own.var_dir / "log" / "valkey.log") in shown
    password = urlsplit(database_url).password
    assert password
    assert password not in first + second + shown
    found = {each["name"]: each for each in json.loads(run("status", "--json").stdout)}
    assert found["valkey"]["state"] == "running"
    assert found["postgres"] == {
        **{"name": "postgres", "state": "elsewhere", "pid": None, "port": None, "log_path": None},
        "url": database_url,
    }
    assert run("url", "valkey").stdout.strip() == found["valkey"]["url"]
    assert run("down").stdout.startswith("✓ valkey stopped")
    assert run("down").stdout == "Nothing runs.\n"
    assert "valkey    stopped" in run("status").stdout


def test_an_error_is_one_line_unless_debug_is_asked_for(own: Settings, run: Run) -> None:
    own.var_dir.write_text("not a folder")
    done = run("up")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("✗ ")
    assert "Traceback" in run("up", "--debug").stderr
    own.var_dir.unlink()


def test_an_unknown_server_is_refused_by_name(run: Run) -> None:
    done = run("url", "mysql")
    assert done.returncode == 2
    assert "'mysql' is not a server" in done.stderr


def test_delete_asks_first(own: Settings, run: Run) -> None:
    run("up")
    assert run("delete").returncode == 1
    assert (own.var_dir / "valkey").exists()
    assert run("delete", "--yes").returncode == 0
    assert not (own.var_dir / "valkey").exists()
