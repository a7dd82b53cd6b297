"""Write the README's table of figures from `benchmarks/results`: `make bench-table`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from configs.settings import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def table(results: Path) -> str:
    """The table in Markdown: one row a target, with what was found and the command."""
    lines = ["| figure | measured | target | command |", "|---|---|---|---|"]
    for path in sorted(results.glob("*.json")):
        lines += _rows(json.loads(path.read_text()))
    return "\n".join(lines)


def _rows(report: dict[str, Any]) -> list[str]:
    values = dict(report["ratios"])
    units = dict.fromkeys(values, "×")
    for r in report["results"]:
        values[f"{r['subject']}_{r['metric']}"] = r["median"]
        units[f"{r['subject']}_{r['metric']}"] = f" {r['unit']}" if r["unit"] else ""
    title = report["name"].replace("_", " ")
    rows = []
    for name, (compare, bound) in report["targets"].items():
        figure, unit = f"{title}: {name.replace('_', ' ')}", units[name]
        measured, target = f"{values[name]:,.4g}{unit}", f"{compare} {bound:,g}{unit}"
        rows.append(f"| {figure} | {measured} | {target} | `{report['command']}` |")
    return rows


def main() -> int:
    """Put the table between the README's marks."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{table(RESULTS)}\n\n{END}{after}")
    print(f"✓ Wrote the figures of {len(list(RESULTS.glob('*.json')))} benchmarks into README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
