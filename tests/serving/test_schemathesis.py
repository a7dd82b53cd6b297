"""The documentation as a generator of requests: whatever it allows, and much that it does not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds.serving import Api

COMMAND = str(Path(sys.executable).with_name("schemathesis"))
CONFIG = str(Path(__file__).with_name("schemathesis.toml"))


def answered(api: Api) -> dict[str, int]:
    """How many requests have been answered, by status."""
    counts: dict[str, int] = {}
    pattern = r'^fti_http_requests_total\{path="[^"]*",status="(\d+)"\} (\S+)$'
    for status, count in re.findall(pattern, api.get("/metrics").text, re.MULTILINE):
        counts[status] = counts.get(status, 0) + int(float(count))
    return counts


def fuzz(api: Api, examples: int, seed: int = 7) -> int:
    """Run schemathesis; give how many requests it made."""
    before = sum(answered(api).values())
    command = [COMMAND, "--config-file", CONFIG, "run", f"{api.base_url}/openapi.json"]
    command += ["--seed", str(seed), "--max-examples", str(examples), "--checks", "all"]
    command += ["--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all"]
    command += ["--generation-database", "none", "--no-color", "--warnings", "off"]
    ended = subprocess.run(
        command,
        cwd=api.log_path.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    after = answered(api)
    assert [status for status in after if status.startswith("5")] == []
    return sum(after.values()) - before


def test_requests_made_from_the_documentation_never_fail_the_server(api):
    assert fuzz(api, examples=1) >= 200


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_five_thousand_requests_never_fail_the_server(api):
    made, seed = 0, 0
    while made < 5000:
        made, seed = made + fuzz(api, examples=500, seed=seed), seed + 1
