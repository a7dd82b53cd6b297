"""Grafana's dashboards as code, and Prometheus's rules as Kubernetes takes them.

``python -m infrastructure.dashboards`` writes ``grafana/dashboards/*.json`` and
``kubernetes/base/prometheus-rule.yaml``; with ``--check`` it only says whether they are up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
"""Of a panel in Grafana's grid of 24 columns, and how many stand beside each other."""


@dataclass(frozen=True)
class Panel:
    """One picture: its title, its queries by legend, and how the values are shown.

    Parameters
    ----------
    queries
        Legend (``{{label}}`` stands for a label's value) to PromQL.
    unit
        A unit of Grafana's: ``s``, ``percentunit``, ``reqps``, ``bytes``, ``short``.
    """

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    kind: str = "timeseries"


def _rate(metric: str, by: str = "", window: str = "$__rate_interval") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}[{window}]))"


def _quantile(q: float, metric: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {_rate(f'{metric}_bucket', labels)})"


API = (
    Panel(
        "Requests",
        {"{{path}} {{status}}": _rate("fti_http_requests_total", "path, status")},
        "reqps",
    ),
    Panel(
        "Errors of predictions",
        {
            "5 minutes": "fti:http_errors:ratio_rate5m",
            "1 hour": "fti:http_errors:ratio_rate1h",
            "objective": "vector(0.001)",
        },
        "percentunit",
    ),
    Panel(
        "Time of a prediction",
        {f"p{q:g}": _quantile(q / 100, "fti_http_request_seconds") for q in (50, 95, 99)},
        "s",
    ),
    Panel("Slower than 50 ms", {"1 hour": "fti:http_slow:ratio_rate1h"}, "percentunit"),
    Panel(
        "In flight",
        {"{{instance}}": "fti_http_requests_in_flight"},
    ),
    Panel("Refused", {"{{reason}}": _rate("fti_http_requests_refused_total", "reason")}, "reqps"),
    Panel(
        "Answered together",
        {
            "predictions a batch": (
                f"{_rate('fti_prediction_seconds_count')} / sum (deriv(fti_prediction_batches[5m]))"
            )
        },
    ),
    Panel(
        "Spool of the prediction log", {"{{instance}}": "fti_prediction_log_spool_bytes"}, "bytes"
    ),
    Panel(
        "Connected (1) or not (0)",
        {
            "Redis": "min(fti_online_store_connected)",
            "PostgreSQL, for the log": "min(fti_prediction_log_shipping)",
            "log writable": "min(fti_prediction_log_writable)",
            "deployments confirmed": "min(fti_deployment_confirmed)",
        },
    ),
    Panel("Breaker of Redis", {"opened": "sum(fti_online_store_trips)"}),
    Panel(
        "Longest pause of the collector",
        {"{{instance}}": "fti_longest_garbage_collection_seconds"},
        "s",
    ),
    Panel(
        "Rows of batches",
        {"{{model_version}}": _rate("fti_batch_predictions_total", "model_version")},
        "reqps",
    ),
)
FEATURES = (
    Panel(
        "Degraded answers",
        {"{{reason}}": _rate("fti_predictions_degraded_total", "reason")},
        "reqps",
    ),
    Panel(
        "Degraded rows of batches",
        {"{{reason}}": _rate("fti_batch_predictions_degraded_total", "reason")},
        "reqps",
    ),
    Panel(
        "Age of stored features",
        {f"p{q:g}": _quantile(q / 100, "fti_feature_age_seconds") for q in (50, 95)},
        "s",
    ),
    Panel(
        "Missing attributes an answer",
        {
            "mean": f"{_rate('fti_predictions_missing_attributes_total')} / "
            f"{_rate('fti_prediction_seconds_count')}"
        },
    ),
    Panel("Drifted features", {"features": "max(fti_monitoring_drifted_features)"}),
    Panel(
        "Features that moved most (PSI)",
        {"{{feature}}": "topk(10, fti_monitoring_feature_psi)"},
    ),
    Panel(
        "Missing share",
        {"{{feature}}": "topk(10, fti_monitoring_feature_missing_share)"},
        "percentunit",
    ),
    Panel(
        "Skew between log and offline store",
        {"share": "max(fti_monitoring_skew_mismatch_share)"},
        "percentunit",
    ),
    Panel("Broken clauses of contracts", {"clauses": "max(fti_monitoring_broken_contracts)"}),
)
MODELS = (
    Panel(
        "Versions that answer",
        {"{{model_version}}": _rate("fti_prediction_seconds_count", "model_version")},
        "reqps",
    ),
    Panel(
        "Score",
        {"median {{model_version}}": _quantile(0.5, "fti_prediction_probability", "model_version")},
        "percentunit",
    ),
    Panel(
        "Time of scoring, p99",
        {"{{model_version}}": _quantile(0.99, "fti_prediction_seconds", "model_version")},
        "s",
    ),
    Panel("Accuracy", {"{{arm}}": "fti_monitoring_accuracy"}, "percentunit"),
    Panel("Brier score", {"{{arm}}": "fti_monitoring_brier"}),
    Panel("Calibration error", {"{{arm}}": "fti_monitoring_ece"}),
    Panel("Labels known", {"share": "max(fti_monitoring_label_coverage)"}, "percentunit"),
    Panel("Drift of scores (PSI)", {"scores": "max(fti_monitoring_score_psi)"}),
    Panel("Harmful drift", {"1 is harmful": "max(fti_monitoring_harmful_drift)"}),
    Panel("Deployment that is live", {"{{instance}}": "fti_deployment_generation"}),
    Panel("Refused deployments", {"refused": "sum(fti_deployment_refusals)"}),
    Panel(
        "Last pass of monitoring",
        {"age": "time() - max(fti_monitoring_last_pass_timestamp_seconds)"},
        "s",
    ),
)
EXPERIMENTS = (
    Panel("Predictions by arm", {"{{arm}}": _rate("fti_prediction_seconds_count", "arm")}, "reqps"),
    Panel(
        "Share of the challenger",
        {
            "observed, 6 hours": "fti:challenger:share6h",
            "intended": "max(fti_deployment_challenger_share)",
        },
        "percentunit",
    ),
    Panel(
        "Score by arm",
        {"median {{arm}}": _quantile(0.5, "fti_prediction_probability", "arm")},
        "percentunit",
    ),
    Panel("Time by arm, p99", {"{{arm}}": _quantile(0.99, "fti_prediction_seconds", "arm")}, "s"),
    Panel("Accuracy by arm", {"{{arm}}": 'fti_monitoring_accuracy{arm!=""}'}, "percentunit"),
    Panel("Log loss by arm", {"{{arm}}": 'fti_monitoring_log_loss{arm!=""}'}),
    Panel("Deployments", {"swaps": "sum(fti_deployment_swaps)"}),
)
DASHBOARDS = {
    "api": ("FTI: API", API),
    "features": ("FTI: features", FEATURES),
    "models": ("FTI: models", MODELS),
    "experiments": ("FTI: experiments", EXPERIMENTS),
}


def dashboard(name: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """Give a dashboard as Grafana reads it."""
    return {
        "uid": f"fti-{name}",
        "title": title,
        "tags": ["fti"],
        "schemaVersion": 41,
        "timezone": "utc",
        "refresh": "30s",
        "editable": False,
        "time": {"from": "now-6h", "to": "now"},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
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
    for name, (title, panels) in DASHBOARDS.items():
        content = json.dumps(dashboard(name, title, panels), indent=2) + "\n"
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


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    targets = [
        {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
        for place, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [{**target, "datasource": SOURCE} for target in targets],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
