"""How every benchmark measures: subjects in turn within one run, medians, ratios, one JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.code_digest import code_digest
from configs.settings import ROOT

RESULTS = ROOT / "benchmarks" / "results"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda found, bound: found <= bound,
    ">=": lambda found, bound: found >= bound,
}


def is_quick() -> bool:
    """Whether ``--quick`` was given: fewer rounds, smaller inputs, nothing written."""
    return "--quick" in sys.argv


def seconds(work: Callable[[], object]) -> Callable[[], float]:
    """Make a subject that runs ``work`` once and gives its wall time in seconds."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return timed


def each(work: Callable[[], object], repeats: int) -> Callable[[], float]:
    """Make a subject that runs ``work`` often and gives the median of one call in microseconds."""

    def timed() -> float:
        taken = []
        for _ in range(repeats):
            start = time.perf_counter_ns()
            work()
            taken.append((time.perf_counter_ns() - start) / 1000)
        return statistics.median(taken)

    return timed


def interleaved(subjects: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure subjects in turn, A B A B …, after one round that does not count.

    Returns
    -------
    Subject to its ``rounds`` values, in the order in which they were measured.
    """
    for measure in subjects.values():
        measure()
    runs: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, measure in subjects.items():
            runs[name].append(measure())
    return runs


@dataclass
class Report:
    """What one benchmark found.

    Parameters
    ----------
    name
        Name of the program under ``benchmarks``, and of its file of results.
    packages
        Distributions whose versions belong to the figures.
    """

    name: str
    packages: Sequence[str] = ()
    results: list[dict[str, Any]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    targets: dict[str, tuple[str, float]] = field(default_factory=dict)

    def add(self, metric: str, unit: str, runs: Mapping[str, Sequence[float]]) -> None:
        """Add the runs of one metric by subject."""
        for subject, values in runs.items():
            self.results.append(
                {
                    "subject": subject,
                    "metric": metric,
                    "unit": unit,
                    "median": statistics.median(values),
                    "runs": list(values),
                }
            )

    def median(self, subject: str, metric: str) -> float:
        """Median of a subject's metric."""
        [found] = [
            r["median"] for r in self.results if (r["subject"], r["metric"]) == (subject, metric)
        ]
        return float(found)

    def ratio(self, over: str, under: str, metric: str) -> None:
        """Add the median of the ratios ``over / under``, pair by pair of runs."""
        runs = {r["subject"]: r["runs"] for r in self.results if r["metric"] == metric}
        pairs = zip(runs[over], runs[under], strict=True)
        self.ratios[f"{over}_over_{under}_{metric}"] = statistics.median(a / b for a, b in pairs)

    def target(self, name: str, compare: str, bound: float) -> None:
        """Say what is expected of a ratio, or of ``{subject}_{metric}``'s median."""
        self.targets[name] = (compare, bound)

    def found(self, target: str) -> float:
        """The value that a target speaks of."""
        if target in self.ratios:
            return self.ratios[target]
        medians = {f"{r['subject']}_{r['metric']}": r["median"] for r in self.results}
        return float(medians[target])

    def misses(self) -> list[str]:
        """Targets that the figures do not meet, one line each."""
        return [
            f"{name} is {self.found(name):.4g}, the target is {compare} {bound:g}"
            for name, (compare, bound) in self.targets.items()
            if not _COMPARE[compare](self.found(name), bound)
        ]

    def finish(self) -> int:
        """Print the figures, write them (not with ``--quick``); 1 when a target is missed."""
        self._print()
        if not is_quick():
            self._write(RESULTS / f"{self.name}.json")
        for miss in self.misses():
            print(f"✗ {miss}")
        return 1 if self.misses() and not is_quick() else 0

    def _print(self) -> None:
        table = Table("subject", "metric", "median", "unit", "least", "most", title=self.name)
        for r in self.results:
            spread = f"{min(r['runs']):,.4g}", f"{max(r['runs']):,.4g}"
            table.add_row(r["subject"], r["metric"], f"{r['median']:,.4g}", r["unit"], *spread)
        console = Console()
        console.print(table)
        for name, value in self.ratios.items():
            console.print(f"  {name}: [bold]{value:.3g}[/bold]")

    def _write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        content = {
            "name": self.name,
            "command": f"python -m benchmarks.{self.name}",
            "code": code_digest(f"benchmarks.{self.name}"),
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "versions": {package: version(package) for package in self.packages},
            },
            "results": self.results,
            "ratios": self.ratios,
            "targets": self.targets,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
