"""What callers who mean harm cost others: memory of a worker, and the wait of those who ask well.

One worker with its default limits, on one core; those who attack, one kind at a time and without
a key, on the other, together with a caller who asks ``/health`` and ``/predict`` fifty times a
second each on a connection that is opened anew when it is lost. ``resident`` is the worker's peak
during an attack; ``worst`` is the worst of all attacks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from benchmarks.harness.report import Report, is_quick
from benchmarks.subjects.hostile import attacks
from benchmarks.subjects.http_load import subjects
from benchmarks.subjects.http_load.process import Server, running
from benchmarks.subjects.http_load.stage import stage

ROUNDS, SECONDS = (1, 2.0) if is_quick() else (3, 6.0)
PAUSE_S = 0.02
GIVE_UP_S = 10.0
WARM_UP_S = 0.5
"""Attackers have begun by then."""
METRICS = {"resident": "MB", "health_p99": "ms", "predict_p99": "ms", "predict_refused": ""}
LIMITS = {"resident": 400.0, "health_p99": 100.0}


def under(attack: str, server: Server) -> dict[str, float]:
    """Measure a server while it is attacked."""
    status = Path(f"/proc/{server.pid}/status")
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # forgets the peak
    with attacking(attack, server.port):
        time.sleep(WARM_UP_S)
        health, predict, refused = ask_well(server, SECONDS)
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return {
        "resident": int(line.split()[1]) / 1024,
        "health_p99": float(np.percentile(health, 99)) * 1000,
        "predict_p99": float(np.percentile(predict, 99)) * 1000,
        "predict_refused": refused / len(predict),
    }


@contextmanager
def attacking(name: str, port: int) -> Iterator[None]:
    """Let an attack go on meanwhile."""
    command = [sys.executable, "-m", "benchmarks.subjects.hostile", name, str(port)]
    process = subprocess.Popen([*command, str(SECONDS + 2 * WARM_UP_S)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def ask_well(server: Server, duration_s: float) -> tuple[list[float], list[float], int]:
    """Ask on; give the waits for both paths in seconds, and how many predictions were refused."""
    health: list[float] = []
    predict: list[float] = []
    refused, ends_s = 0, time.monotonic() + duration_s
    url = f"http://127.0.0.1:{server.port}"
    with httpx.Client(base_url=url, timeout=GIVE_UP_S) as client:
        while time.monotonic() < ends_s:
            health.append(_wait(client, "GET", "/health")[0])
            waited_s, status = _wait(client, "POST", "/predict", server.subject.bodies[0])
            predict.append(waited_s)
            refused += status != httpx.codes.OK
            time.sleep(PAUSE_S)
    return health, predict, refused


def _wait(client: httpx.Client, verb: str, path: str, body: str = "") -> tuple[float, int]:
    """Ask until there is an answer: the time that it took, and its status."""
    began = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    while time.perf_counter() - began < GIVE_UP_S:
        try:
            status = client.request(verb, path, content=body, headers=headers).status_code
        except httpx.TransportError:  # hung up on to make room for others
            continue
        return time.perf_counter() - began, status
    return GIVE_UP_S, 0


def main() -> int:
    """Attack in every way, a few rounds; write the figures."""
    report = Report("hostile_callers", packages=("uvicorn", "httptools", "uvloop"))
    chosen = [name for name in attacks() if name in sys.argv] or list(attacks())
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("worst", *chosen)}
    with tempfile.TemporaryDirectory() as folder, stage() as place:
        for number in range(ROUNDS):
            with running(subjects.ours(place)[0], Path(folder) / f"{number}.log") as server:
                for name in chosen:
                    found[name].append(under(name, server))
            worst = {each: max(found[name][-1][each] for name in chosen) for each in METRICS}
            found["worst"].append(worst)
    for metric, unit in METRICS.items():
        runs = {name: [each[metric] for each in of] for name, of in found.items()}
        report.add(metric, unit, runs)
    for metric, limit in LIMITS.items():
        report.target(f"worst_{metric}", "<=", limit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
