"""The program of the local Airflow: scheduler, DAG processor and API server as one service.

Tasks of Airflow may begin sessions of their own, and outlive what started them. This process adopts
whatever its children leave behind, and takes all of it along when it ends.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from infrastructure.servers.processes import descendants, end

PR_SET_CHILD_SUBREAPER = 36
"""Of ``prctl(2)``: orphans among our descendants become our children."""
PATIENCE_S = 8
"""For the gentle end of everything; the rest is killed."""
POLL_S = 0.2


def main() -> None:
    """Prepare the metadata, run the three components until told to stop, or until one has died."""
    parser = argparse.ArgumentParser(description="Run Airflow on this machine, all in one.")
    parser.add_argument("--airflow", required=True, help="Airflow's command")
    parser.add_argument("--pools", required=True, type=Path, help="JSON file of the pools")
    parser.add_argument("--port", required=True, type=int)
    arguments = parser.parse_args()
    os.environ["AIRFLOW__API__PORT"] = str(arguments.port)
    api = f"http://localhost:{arguments.port}"
    os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{api}/execution/"
    os.environ["AIRFLOW__API__BASE_URL"] = api

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        subprocess.run([arguments.airflow, "db", "migrate"], check=True)
        subprocess.run([arguments.airflow, "pools", "import", arguments.pools], check=True)
        components = [
            subprocess.Popen([arguments.airflow, name])
            for name in ("api-server", "scheduler", "dag-processor")
        ]
        _watch(components)
    finally:
        end(lambda: descendants(os.getpid()), signal.SIGTERM, PATIENCE_S)


def _watch(components: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until a component has ended, and reap what was adopted meanwhile."""
    while all(component.poll() is None for component in components):
        _reap([component.pid for component in components])
        time.sleep(POLL_S)
    print("A component of Airflow has ended; its messages are above.", file=sys.stderr)
    raise SystemExit(1)


def _reap(known: Sequence[int]) -> None:
    """Collect adopted processes that have ended; components are their own objects' affair."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for pid in map(int, children):
        if pid not in known:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _stop(number: int, frame: object) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


if __name__ == "__main__":
    main()
