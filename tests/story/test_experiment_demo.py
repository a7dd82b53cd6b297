"""Four A/B tests through the API, as `make experiment-demo` plays them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs.settings import ROOT


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_experiment_demo_decides_as_it_says(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.experiment_demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "FTI_VAR_DIR": str(tmp_path / "var"), "NO_COLOR": "1"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr

    said = ended.stdout
    assert re.search(
        r"Promoted income-xgb-v2 in place of income-xgb-v1: .* is better: brier -", said
    )
    assert re.search(r"Rolled back income-xgb-v1: income-xgb-v2 takes all traffic: ", said)
    assert re.search(r"The test of income-xgb-v3 goes on: undecided: brier ", said)
    assert re.search(r"Rolled back income-xgb-v3: .*: sample ratio mismatch among ", said)
    plots = sorted((tmp_path / "var" / "experiment-demo" / "plots").glob("*.png"))
    assert len(plots) == 4
    for plot in plots:
        assert plot.read_bytes().startswith(b"\x89PNG")
        assert str(plot) in said
