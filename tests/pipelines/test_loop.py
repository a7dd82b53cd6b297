"""The loop closes by itself: drift, alert, retraining, experiment, promotion, recovery."""

import os
import re
import subprocess
import sys

import pytest

from configs.settings import ROOT


@pytest.mark.full
def test_the_loop_closes_by_itself(tmp_path):
    ended = subprocess.run(
        [sys.executable, "pipelines/loop_demo.py", "--folder", str(tmp_path / "var")],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    said = ended.stdout
    assert ended.returncode == 0, said[-3000:] + ended.stderr[-3000:]
    days = {int(n): float(a) for n, a in re.findall(r"Day (\d+): .* accuracy (\d\.\d+)", said)}
    assert all(days[day] > 0.8 for day in range(4))  # no alarm before anything has changed
    assert "firing" not in said.split("Day 4:")[0]
    on_the_day = said.split("Day 4:")[1].split("Day 5:")[0]
    assert "feature_drift is firing" in on_the_day
    assert "hours_per_week (PSI" in on_the_day
    story = (
        *("feature_drift is firing", "low_accuracy is firing"),
        *("retraining request 1: experiment", "experiment: promote"),
        *("retraining request 1: promoted", "low_accuracy is resolved"),
    )
    places = [said.index(event) for event in story]
    assert places == sorted(places)
    assert min(days.values()) < 0.75
    assert days[max(days)] >= 0.8
    assert (tmp_path / "var" / "monitoring" / "report.html").exists()
