"""Closed loop: so many connections, each asks again as soon as it is answered (wrk)."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.subjects.http_load.process import Server, Subject

WRK = "wrk"
LONGEST_S = 16
"""A server that answers nobody meanwhile is given up; until then it is given more time."""
SCRIPT = """
local bodies = {BODIES}
local requests, n = {}, 0
init = function()
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", "PATH", {["Content-Type"] = "application/json"}, body)
  end
end
request = function() n = n % #requests + 1; return requests[n] end
done = function(summary, latency)
  io.write(string.format('RESULT {"requests": %d, "us": %d, "p50": %d, "p99": %d, "bad": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What a run of the load found.

    Parameters
    ----------
    p50_ms, p99_ms
        Time to the answer.
    cpu_us
        Processor time of the server, an answer.
    """

    answers: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def is_there() -> bool:
    """Whether wrk is installed."""
    return shutil.which(WRK) is not None


def write_script(subject: Subject, folder: Path) -> Path:
    """Write the requests of a subject for wrk."""
    texts = ", ".join(f"[==[{body}]==]" for body in subject.bodies)
    path = folder / f"{subject.name}.lua"
    path.write_text(SCRIPT.replace("{BODIES}", f"{{{texts}}}").replace("PATH", subject.path))
    return path


def closed_loop(server: Server, script: Path, connections: int, duration_s: float) -> Load:
    """Load a server, and measure it.

    Raises
    ------
    ValueError
        If any answer was not 200.
    """
    command = [WRK, "-t1", f"-c{connections}", f"-d{duration_s:g}s", "--latency", "-s", str(script)]
    before = server.cpu_us()
    ended = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}"], capture_output=True, text=True, check=True
    )
    used = server.cpu_us() - before
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
    found = json.loads(line.removeprefix("RESULT "))
    if not found["requests"] and not found["bad"] and duration_s < LONGEST_S:
        return closed_loop(server, script, connections, 2 * duration_s)
    if found["bad"] or not found["requests"]:
        raise ValueError(f"{server.subject.name}: {found['bad']} of {found['requests']} failed.")
    return Load(
        answers=found["requests"],
        rate=found["requests"] / found["us"] * 1e6,
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        cpu_us=used / found["requests"],
    )
