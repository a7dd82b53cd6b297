"""A real Spark cluster on loopback: a master and a worker, each a JVM of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_LIMIT_S = 90


@dataclass
class Cluster:
    """A standalone cluster with one core an executor."""

    url: str
    folder: Path
    worker: subprocess.Popen[bytes]

    def executors(self) -> list[int]:
        """Process numbers of the executors' JVMs."""
        return _children(self.worker.pid, "CoarseGrainedExecutorBackend")

    def python_workers(self) -> list[int]:
        """Process numbers of the Python processes that score."""
        return [pid for executor in self.executors() for pid in _python_below(executor)]


@contextmanager
def spark_cluster(folder: Path, cores: int = 2) -> Iterator[Cluster]:
    """Run a master and a worker."""
    folder.mkdir(parents=True, exist_ok=True)
    master = _start(folder, "Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    try:
        url = _told(folder / "Master.log", r"Starting Spark master at (spark://\S+)", master)
        arguments = ["--host", "127.0.0.1", "--webui-port", "0", "--cores", str(cores)]
        work = ["--memory", "3g", "--work-dir", str(folder / "work")]
        worker = _start(folder, "Worker", *arguments, *work, url)
        try:
            _told(folder / "Worker.log", r"(Successfully registered) with master", worker)
            yield Cluster(url, folder, worker)
        finally:
            _stop(worker)
    finally:
        _stop(master)


def _start(folder: Path, what: str, *arguments: str) -> subprocess.Popen[bytes]:
    import pyspark

    home = Path(pyspark.__file__).parent
    with (folder / f"{what}.log").open("wb") as log:
        return subprocess.Popen(
            [
                str(home / "bin" / "spark-class"),
                f"org.apache.spark.deploy.{what.lower()}.{what}",
                *arguments,
            ],
            env={
                **os.environ,
                "SPARK_HOME": str(home),
                "SPARK_LOCAL_IP": "127.0.0.1",
                "SPARK_DAEMON_MEMORY": "256m",
                "PYSPARK_PYTHON": sys.executable,
            },
            cwd=folder,
            stdout=log,
            stderr=log,
        )


def _told(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"Spark did not start:\n{log.read_text(errors='replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(START_LIMIT_S)


def _children(pid: int, like: str) -> list[int]:
    """Processes below one whose command line holds a text."""
    found = []
    for child in _direct(pid):
        if like in _command(child):
            found.append(child)
        found += _children(child, like)
    return found


def _python_below(pid: int) -> list[int]:
    """The leaves below an executor: ``pyspark.daemon`` forks one a core."""
    daemons = _children(pid, "pyspark.daemon")
    return [child for child in daemons if not _direct(child)]


def _direct(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
