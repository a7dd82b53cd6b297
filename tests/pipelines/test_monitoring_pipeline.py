"""The command that people run: on an empty system, on a wrong command line, for ever."""

import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from configs.settings import ROOT
from infrastructure.embedded import postgres_url, redis_url


@pytest.fixture
def environment(settings, tmp_path):
    return {
        **os.environ,
        "DATABASE_URL": postgres_url(settings),
        "REDIS_URL": redis_url(settings),
        "FTI_VAR_DIR": str(tmp_path / "var"),
        "FTI_MONITORING__METRICS_PORT": "0",
        "MODEL_NAME": "nobody-predictor",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def start(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "pipelines/monitoring_pipeline.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_on_an_empty_system_a_pass_says_what_it_skips(environment, tmp_path):
    process = start(environment, "--once")
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    for check in ("drift", "performance", "label_drift", "skew"):
        assert f"✓ {check}: skipped: nothing is deployed" in said
    assert (tmp_path / "var/monitoring/report.html").read_text().startswith("<!doctype html>")
    assert (
        "fti_monitoring_failed_checks 0.0" in (tmp_path / "var/monitoring/metrics.prom").read_text()
    )


def test_it_says_how_it_wants_to_be_called(environment):
    process = start(environment)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint.strip() == "✗ Say either --once or --every 60."


@pytest.mark.full
def test_passes_go_on_and_gauges_are_served_until_it_is_stopped(environment):
    process = start(environment, "--every", "1")
    url, passes = "", 0
    for line in process.stdout:
        if "Gauges: " in line:
            url = line.split("Gauges: ")[1].strip()
        passes += line.startswith("✓ Report")
        if passes == 2:
            break
    with urllib.request.urlopen(url, timeout=10) as response:
        assert "fti_monitoring_last_pass_timestamp_seconds" in response.read().decode()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
