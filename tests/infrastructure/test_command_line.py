"""``python -m infrastructure``, run as a user runs it, with a server elsewhere for each but one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from configs.settings import ROOT, Settings


def run(settings: Settings, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    elsewhere = {"DATABASE_URL": "postgresql://me:secret@db/fti", "MLFLOW_TRACKING_URI": "http://m"}
    return subprocess.run(
        [sys.executable, "-m", "infrastructure", *arguments],
        cwd=ROOT,
        env={**os.environ, "FTI_VAR_DIR": str(settings.var_dir), **elsewhere, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_up_twice_then_status_then_down_twice(own: Settings) -> None:
    first = run(own, "up").stdout
    assert "✓ postgres: elsewhere, as configured" in first
    assert "✓ valkey: started in" in first
    second = run(own, "up").stdout
    assert "✓ valkey: runs already" in second
    assert second.endswith("Nothing had to be started.\n")
    shown = run(own, "status").stdout
    assert str(own.var_dir / "log" / "valkey.log") in shown
    assert "secret" not in first + second + shown
    found = {each["name"]: each for each in json.loads(run(own, "status", "--json").stdout)}
    assert found["valkey"]["state"] == "running"
    assert found["postgres"] == {
        **{"name": "postgres", "state": "elsewhere", "pid": None, "port": None, "log_path": None},
        "url": "postgresql://me:secret@db/fti",
    }
    assert run(own, "url", "valkey").stdout.strip() == found["valkey"]["url"]
    assert run(own, "down").stdout.startswith("✓ valkey stopped")
    assert run(own, "down").stdout == "Nothing runs.\n"
    assert "valkey    stopped" in run(own, "status").stdout


def test_an_error_is_one_line_unless_debug_is_asked_for(own: Settings) -> None:
    own.var_dir.write_text("not a folder")
    done = run(own, "up")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("✗ ")
    assert "Traceback" in run(own, "up", "--debug").stderr
    own.var_dir.unlink()


def test_an_unknown_server_is_refused_by_name(own: Settings) -> None:
    done = run(own, "url", "mysql")
    assert done.returncode == 2
    assert "'mysql' is not a server" in done.stderr


def test_delete_asks_first(own: Settings) -> None:
    run(own, "up")
    assert run(own, "delete").returncode == 1
    assert (own.var_dir / "valkey").exists()
    assert run(own, "delete", "--yes").returncode == 0
    assert not (own.var_dir / "valkey").exists()
