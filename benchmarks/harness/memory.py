"""Time and memory of some work, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 2**20
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def fresh_process(module: str, *arguments: object) -> dict[str, float]:
    """Run a module of ours in a process of its own; it prints its figures as JSON."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Do the work: what it gives, its ``wall`` in seconds, and by how much memory rose meanwhile.

    The rise, ``peak`` in MiB, is that of the resident set from just before the work to its peak.
    """
    _RESET.write_text("5")  # https://docs.kernel.org/filesystems/proc.html: forgets the peak
    before, start = _resident("VmRSS"), time.perf_counter()
    result = work()
    wall = time.perf_counter() - start
    return result, {"wall": wall, "peak": _resident("VmHWM") - before}


def _resident(name: str) -> float:
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024
