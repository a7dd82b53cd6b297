"""Grafana's dashboards, and Prometheus's rules as Kubernetes takes them.

``python -m infrastructure.dashboards`` writes ``grafana/dashboards/*.json`` from
``grafana/panels.yaml``, and ``kubernetes/base/prometheus-rule.yaml``; with ``--check`` it only says
whether they are up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
"""Of a panel in Grafana's grid of 24 columns, and how many stand beside each other."""


def panels() -> dict[str, Any]:
    """Give the panels of each dashboard as ``grafana/panels.yaml`` describes them."""
    described: dict[str, Any] = yaml.safe_load((FOLDER / "grafana" / "panels.yaml").read_text())
    return described


def dashboard(name: str, described: dict[str, Any]) -> dict[str, Any]:
    """Give a dashboard as Grafana reads it."""
    return {
        "uid": f"fti-{name}",
        "title": described["title"],
        "tags": ["fti"],
        "schemaVersion": 41,
        "timezone": "utc",
        "refresh": "30s",
        "editable": False,
        "time": {"from": "now-6h", "to": "now"},
        "panels": [_panel(number, panel) for number, panel in enumerate(described["panels"])],
    }


def prometheus_rule() -> str:
    """Give the rules of ``prometheus/rules`` as one resource of the Prometheus Operator."""
    groups = [
        group
        for path in sorted((FOLDER / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "fti"},
        "spec": {"groups": groups},
    }
    note = "# Written by `make docs` from infrastructure/prometheus/rules.\n"
    return note + yaml.safe_dump(resource, sort_keys=False, width=1000)


def files() -> Iterator[tuple[Path, str]]:
    """Give what is generated: each file and its content."""
    for name, described in panels().items():
        content = json.dumps(dashboard(name, described), indent=2) + "\n"
        yield FOLDER / "grafana" / "dashboards" / f"{name}.json", content
    yield FOLDER / "kubernetes" / "base" / "prometheus-rule.yaml", prometheus_rule()


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` say which are out of date; give the exit code."""
    stale = [(p, c) for p, c in files() if not p.exists() or p.read_text() != c]
    for path, content in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(FOLDER.parent)} is out of date. Run `make docs`.")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            print(f"✓ {path.relative_to(FOLDER.parent)}")
    return int("--check" in arguments and bool(stale))


def _panel(number: int, panel: dict[str, Any]) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    targets = [
        {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
        for place, (legend, query) in enumerate(panel["queries"].items())
    ]
    return {
        "id": number + 1,
        "title": panel["title"],
        "type": "timeseries",
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.get("unit", "short")}, "overrides": []},
        "targets": [{**target, "datasource": SOURCE} for target in targets],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
