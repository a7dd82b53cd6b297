"""Write the figures in the README and in docs/ from the results: `make bench-table`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.code_digest import code_digest
from benchmarks.harness.report import RESULTS
from configs.settings import ROOT

README, PAGE = ROOT / "README.md", ROOT / "docs" / "figures.md"
SERVING = ROOT / "docs" / "serving.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
COLUMNS = ["| figure | measured | target |", "|---|---|---|"]
HEADLINES = {
    ("feature_engine", "ours_one_row"): "47 features of one row",
    ("feature_pipeline", "first_run_wall"): "feature pipeline: 48,842 rows, files to both stores",
    ("historical_retrieval", "ours_wall_48842"): "point-in-time read of 48,842 rows",
    ("online_write", "feast_over_ours_wall"): "48,842 × 47 into Redis, against `feast materialize`",
    ("online_read", "feast_over_ours_read_p50"): (
        "online read by our own call, against the Feast SDK with its own store"
    ),
    ("feast_client", "feast_over_feast_over_our_store_read_1_p50"): (
        "… by the Feast SDK with our store, against the same, one user"
    ),
    ("feast_client", "feast_over_feast_over_our_store_served_1_p50"): "… one over `feast serve`",
    ("freshness", "ours_p99_at_1000_per_s"): "event to readable at 1,000 events/s, p99",
    ("single_row_model", "pyfunc_over_onnx_one_row"): "one prediction, against MLflow's pyfunc",
    ("serving", "ours_over_constant_rate_at_16"): "predictions by user, against a FastAPI constant",
    ("serving", "ours_over_constant_sustained_rate"): "… highest rate with p99 ≤ 25 ms",
    ("serving", "ours_over_mlserver_rate_at_16"): "… against MLServer, which only predicts",
    ("batch_inference", "features_over_limit_rate_of_10000000"): (
        "batch of 10,000,000 rows, against the bare bulk call"
    ),
    ("batch_inference", "features_rate_of_10000000"): "… rows a second",
    ("batch_spark", "spark_over_features_rate_of_10000000"): "… on Spark, against one machine",
    ("drift", "ours_wall"): "drift of 10,000 × 47 logged predictions, read included",
    ("model_quality", "ensemble_mean_random_roc_auc"): "ROC-AUC of the ensemble, 5 random splits",
    ("model_quality", "ensemble_mean_random_log_loss"): "log loss of the ensemble",
}
"""What the README shows, by benchmark and figure, and how it says it."""


@dataclass(frozen=True)
class Figure:
    """One target of one benchmark, and what was found."""

    benchmark: str
    name: str
    measured: str
    target: str
    command: str

    def row(self, title: str) -> str:
        """The figure as a row of a table."""
        return f"| {title} | {self.measured} | {self.target} |"


def figures(report: dict[str, Any]) -> list[Figure]:
    """The figures of one result file that have a target, or that the README shows."""
    shown = {name: ("", 0.0) for benchmark, name in HEADLINES if benchmark == report["name"]}
    targets = shown | report["targets"]
    values, units = dict(report["ratios"]), dict.fromkeys(report["ratios"], "×")
    for r in report["results"]:
        values[f"{r['subject']}_{r['metric']}"] = r["median"]
        units[f"{r['subject']}_{r['metric']}"] = f" {r['unit']}" if r["unit"] else ""
    return [
        Figure(
            report["name"],
            name,
            f"{values[name]:,.4g}{units[name]}",
            f"{compare} {bound:,g}{units[name]}" if compare else "–",
            report["command"],
        )
        for name, (compare, bound) in targets.items()
    ]


def readme_table(found: Sequence[Figure]) -> str:
    """The figures of `HEADLINES`, in their order."""
    known = {(figure.benchmark, figure.name): figure for figure in found}
    rows = [
        f"{known[place].row(title)} `{known[place].command}` |"
        for place, title in HEADLINES.items()
        if place in known
    ]
    return "\n".join([f"{COLUMNS[0]} command |", f"{COLUMNS[1]}---|", *rows])


def page(reports: Sequence[dict[str, Any]]) -> str:
    """Everything that was measured: a section for each benchmark."""
    parts = [INTRODUCTION]
    for report in reports:
        title = report["name"].replace("_", " ").capitalize()
        parts.append(f"## {title}\n\n`{report['command']}`, {_circumstances(report)}")
        rows = [figure.row(figure.name.replace("_", " ")) for figure in figures(report)]
        parts.append("\n".join([*COLUMNS, *rows]))
        parts.append("\n".join(["| subject | metric | median | least | most |", *_all(report)]))
    return "\n\n".join(parts) + "\n"


def life_table(reports: Sequence[dict[str, Any]]) -> str:
    """The steps of a request with their microseconds, alone and as one of 16."""
    medians = {
        (r["subject"], r["metric"]): r["median"]
        for report in reports
        if report["name"] == "request_life"
        for r in report["results"]
    }
    steps = dict.fromkeys(step for step, _ in medians)
    rows = []
    for step in steps:
        alone, of_16 = medians[step, "alone"], medians[step, "of_16"]
        rows.append(f"| {step.replace('_', ' ')} | {alone:.1f} | {of_16:.1f} |")
    return "\n".join(["| step | alone, µs | as one of 16, µs |", "|---|---|---|", *rows])


INTRODUCTION = """# Figures

Every figure that has a target, then all that was measured beside it: medians of runs in which the
subjects took turns. Written by `make bench-table` from `benchmarks/results`."""


def _circumstances(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    cpus = f"{machine['cpus']} cores, Python {machine['python']}"
    return f"{report['measured_at'][:10]}, {cpus}{', ' * bool(versions)}{versions}:"


def _all(report: dict[str, Any]) -> list[str]:
    rows = ["|---|---|---|---|---|"]
    for r in report["results"]:
        low, high = (f"{bound:,.4g}" for bound in (min(r["runs"]), max(r["runs"])))
        median = f"{r['median']:,.4g} {r['unit']}".strip()
        metric = r["metric"].replace("_", " ")
        rows.append(f"| {r['subject'].replace('_', ' ')} | {metric} | {median} | {low} | {high} |")
    return rows


def _between_marks(path: Path, table: str) -> str:
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def of_other_code(reports: Sequence[dict[str, Any]]) -> list[str]:
    """The benchmarks whose figures are of other code than today's, or of code that is not known."""
    return [
        report["name"]
        for report in reports
        if report.get("code") != code_digest(report["command"].removeprefix("python -m "))
    ]


def main() -> int:
    """Put the headlines between the README's marks, and everything on the page."""
    reports = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    found = [figure for report in reports for figure in figures(report)]
    pages = {
        README: _between_marks(README, readme_table(found)),
        SERVING: _between_marks(SERVING, life_table(reports)),
        PAGE: page(reports),
    }
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages.items() if path.read_text() != text]
        if stale:
            print(f"✗ Not as measured: {', '.join(stale)}. Run `make bench-table`.")
        if other := of_other_code(reports):
            print(f"! Measured with other code than today's: {', '.join(other)}")
        return 1 if stale else 0
    for path, text in pages.items():
        path.write_text(text)
    names = ", ".join(str(path.relative_to(ROOT)) for path in pages)
    print(f"✓ Wrote {len(found)} figures of {len(reports)} benchmarks: {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
