"""The report page: everything that the newest pass found, as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape

import numpy as np

from models.artifact.profile import Histogram
from models.reports.model_card.frame import Frame
from models.reports.model_card.parts import (
    TITLES,
    between,
    columns,
    number,
    percent,
    section,
    table,
    tile,
)
from models.reports.model_card.style import STYLE
from monitoring.alerting.states import Alert
from monitoring.checks.data_quality import QualityReport
from monitoring.checks.drift import DriftReport, FeatureDrift
from monitoring.checks.performance import Performance, PerformanceReport
from monitoring.checks.results import CheckOutcome, PassResult
from monitoring.checks.skew_audit import SkewReport
from monitoring.reporting.results_store import Point
from monitoring.retraining_requests import RetrainingStep

SHOWN_FEATURES = 12
SHOWN_PLOTS = 6
SERIES = ("accuracy", "drift_weighted_share", "score_psi", "label_coverage")
"""Metrics whose course is drawn."""


def report_page(
    result: PassResult,
    alerts: Sequence[Alert],
    series: Sequence[Point],
    steps: Sequence[RetrainingStep],
    window: Sequence[Histogram],
) -> str:
    """Write the page of a pass.

    Parameters
    ----------
    alerts
        Those that are pending or fire.
    series
        Earlier values of `SERIES`, oldest first.
    steps
        What happened to retrainings, oldest first.
    window
        Histograms of the window's features, for the plots of those that moved.
    """
    champion = result.serving.champion if result.serving else "nothing deployed"
    title = f"Monitoring of {champion}"
    outcomes = result.outcomes
    parts = [
        _alerts(alerts),
        _course(series),
        _drift(outcomes["drift"], result, window),
        _performance(outcomes["performance"]),
        _skew(outcomes["skew"]),
        _quality(outcomes["quality"]),
        _retraining(steps),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="soft">As of {result.as_of:%d %B %Y, %H:%M:%S} '
        f"UTC · checked in {result.seconds:.1f} s</p></header>"
        f'<div class="tiles">{"".join(_tiles(result, alerts))}</div>{"".join(parts)}'
        "<footer>Intervals hold 95 %.</footer></main></body></html>"
    )


def _tiles(result: PassResult, alerts: Sequence[Alert]) -> Iterator[str]:
    firing = [alert for alert in alerts if alert.state == "firing"]
    yield tile("Alerts firing", str(len(firing)), f"{len(alerts) - len(firing)} pending")
    found = result.outcomes["performance"]
    if isinstance(found, PerformanceReport):
        accuracy = found.whole.metrics["accuracy"]
        yield tile("Accuracy", number(accuracy.value), between(accuracy))
        yield tile(
            "Labels",
            f"{found.coverage.labelled:,}",
            f"of {found.coverage.n:,} predictions",
        )
    drift = result.outcomes["drift"]
    if isinstance(drift, DriftReport):
        yield tile("Features drifted", str(len(drift.drifted)), f"of {len(drift.features)}")
    skew = result.outcomes["skew"]
    if isinstance(skew, SkewReport):
        yield tile("Vectors that differ", f"{skew.mismatches:,}", f"of {skew.n:,} audited")
    quality = result.outcomes["quality"]
    if isinstance(quality, QualityReport):
        yield tile("Contracts broken", str(len(quality.broken)), f"of {len(quality.clauses)}")


def _alerts(alerts: Sequence[Alert]) -> str:
    if not alerts:
        return section("Alerts", about="None is pending or fires.")
    rows = [
        (
            f'<span class="{"worse" if each.state == "firing" else "soft"}">{each.state}</span>',
            escape(each.severity),
            f"<code>{escape(each.key)}</code>",
            escape(each.message),
            f"{each.since:%d %b %H:%M}",
            escape(each.owner),
            f"<code>{escape(each.runbook)}</code>",
        )
        for each in alerts
    ]
    head = ("", "severity", "alert", "what", "since", "owner", "runbook")
    return section("Alerts", table(head, rows))


def _course(series: Sequence[Point]) -> str:
    charts = [_line(name, series) for name in SERIES]
    shown = [f"<h3>{name.replace('_', ' ')}</h3>{chart}" for name, chart in charts_named(charts)]
    return section("Course", columns(*shown)) if shown else ""


def charts_named(charts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The charts that have anything to show, with their names."""
    return ((name, chart) for name, chart in zip(SERIES, charts, strict=True) if chart)


def _line(metric: str, series: Sequence[Point]) -> str:
    """The course of a metric: of the champion where it has arms, else of all."""
    of = [p for p in series if p.metric == metric and p.labels in ({}, {"arm": "champion"})]
    of = [p for p in of if p.labels] or of
    if len(of) < 2:
        return ""
    hours = [(p.as_of - of[-1].as_of).total_seconds() / 3600 for p in of]
    values = [p.value for p in of]
    room = max(max(values) - min(values), 1e-3) * 0.1
    frame = Frame(
        (min(hours[0], -1e-3), 0),
        (min(values) - room, max(values) + room),
        ("hours before now", metric.replace("_", " ")),
        height=220,
    )
    frame.line(hours, values)
    frame.dot(hours[-1], values[-1], "point", 4.5)
    return frame.svg(metric)


def _drift(outcome: CheckOutcome, result: PassResult, window: Sequence[Histogram]) -> str:
    if not isinstance(outcome, DriftReport):
        return _unsaid("Drift", outcome)
    shown = [*([outcome.scores] if outcome.scores else []), *outcome.features[:SHOWN_FEATURES]]
    rows = [
        (
            f"<b>{escape(each.name)}</b>" if each.has_drifted else escape(each.name),
            number(each.psi, 3),
            number(each.jensen_shannon, 3),
            number(each.wasserstein, 3),
            number(each.kolmogorov_smirnov, 3),
            f"{each.chance:.1g}",
            f"{percent(each.missing[0])} → {percent(each.missing[1])}",
            percent(each.unseen),
            percent(each.importance),
            escape("; ".join(each.reasons)),
        )
        for each in shown
    ]
    head = ("feature", "PSI", "JS", "Wasserstein", "KS", "chance", "missing", "unseen")
    moved = table((*head, "importance", "moved"), rows, numbers=range(1, 9))
    return section(
        "Drift", moved, _plots(outcome.features, result, window), about=escape(outcome.summary)
    )


def _plots(
    features: Sequence[FeatureDrift], result: PassResult, window: Sequence[Histogram]
) -> str:
    reference = result.serving.reference if result.serving else None
    if reference is None or not window:
        return ""
    before = {column.name: column for column in reference.features.columns}
    now = {column.name: column for column in window}
    drifted = [each.name for each in features if each.has_drifted][:SHOWN_PLOTS]
    plots = [
        f"<h3>{escape(name)}</h3>{overlay(before[name], now[name])}"
        for name in drifted
        if name in now
    ]
    return columns(*plots) if plots else ""


def overlay(before: Histogram, now: Histogram) -> str:
    """Two histograms of the same bins: the training as bars, the window as a line."""
    parts = []
    for each in (before, now):
        counts = np.append(each.counts, [each.missing + each.unseen])
        parts.append(counts / max(each.n, 1))
    bins = len(parts[0])
    highest = float(max(part.max() for part in parts)) or 1.0
    frame = Frame((0, bins), (0, 1.05 * highest), ("bin (last: missing or unseen)", "share"))
    for place, share in enumerate(parts[0]):
        x, y = frame.x(place + 0.1), frame.y(float(share))
        width, height = frame.x(place + 0.9) - x, frame.bottom - y
        frame.parts.append(
            f'<rect class="bar" x="{x}" y="{y}" width="{width:.1f}" height="{height:.1f}" '
            'opacity=".35"/>'
        )
    frame.line(np.arange(bins) + 0.5, parts[1].tolist(), "best")
    return frame.svg(f"{before.name}: training as bars, now as a line")


def _performance(outcome: CheckOutcome) -> str:
    if not isinstance(outcome, PerformanceReport):
        return _unsaid("Performance", outcome)
    names = list(outcome.whole.metrics)
    rows = [_group(group, names) for group in outcome.groups]
    head = ("", "", "labels", *(TITLES.get(name, name) for name in names))
    coverage = outcome.coverage
    about = (
        f"{coverage.labelled:,} of {coverage.n:,} matured predictions have labels "
        f"({percent(coverage.of_ones)} of those said to be 1, {percent(coverage.of_zeros)} of "
        f"those said to be 0), half of them within {coverage.delay_s[0] / 3600:.1f} hours, 90 % "
        f"within {coverage.delay_s[1] / 3600:.1f}."
    )
    shown = table(head, rows, numbers=range(2, 3 + len(names)))
    return section("Performance", shown, about=about)


def _group(group: Performance, names: Sequence[str]) -> list[str]:
    few = '<span class="tag">few</span>' if group.is_small else ""
    values = [
        f'{number(group.metrics[name].value)}<br><span class="soft small">'
        f"{between(group.metrics[name])}</span>"
        for name in names
    ]
    return [escape(group.by), escape(group.word) + few, f"{group.n:,}", *values]


def _skew(outcome: CheckOutcome) -> str:
    if not isinstance(outcome, SkewReport):
        return _unsaid("Skew", outcome)
    rows = [
        (
            escape(each.name),
            f"{each.mismatches:,}",
            percent(each.mismatches / max(outcome.n, 1), 2),
            escape(", ".join(f"{cause} {n:,}" for cause, n in each.causes.items() if n)),
        )
        for each in outcome.features[:SHOWN_FEATURES]
    ]
    shown = table(("feature", "differs", "share", "cause"), rows, numbers=(1, 2)) if rows else ""
    return section("Skew", shown, about=escape(outcome.summary))


def _quality(outcome: CheckOutcome) -> str:
    if not isinstance(outcome, QualityReport):
        return _unsaid("Data quality", outcome)
    rows = [
        (escape(c.name), escape(c.subject), f"{c.value:.4g}", f"{c.limit:.4g}")
        for c in outcome.broken
    ]
    head = ("clause", "of", "found", "limit")
    shown = table(head, rows, numbers=(2, 3)) if rows else ""
    return section("Data quality", shown, about=escape(outcome.summary))


def _retraining(steps: Sequence[RetrainingStep]) -> str:
    if not steps:
        return section("Retraining", about="None has been asked for.")
    rows = [
        (
            _time(step.at),
            "–" if step.request_id is None else str(step.request_id),
            escape(step.step),
            escape(step.detail),
        )
        for step in reversed(steps[-20:])
    ]
    return section("Retraining", table(("when", "request", "step", ""), rows))


def _unsaid(title: str, outcome: CheckOutcome) -> str:
    reason = getattr(outcome, "reason", "")
    return section(title, about=f"Not checked: {escape(reason)}.")


def _time(at: datetime) -> str:
    return f"{at:%d %b %H:%M:%S}"
