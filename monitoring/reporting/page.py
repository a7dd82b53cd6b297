"""The report page: everything that the newest pass found, as one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.artifact.profile import Histogram
from models.reports import charts
from models.reports.pages import percent, render
from monitoring.alerting.states import Alert
from monitoring.checks.data_quality import QualityReport
from monitoring.checks.drift import DriftReport, FeatureDrift
from monitoring.checks.results import PassResult
from monitoring.checks.skew_audit import SkewReport
from monitoring.reporting.results_store import Point
from monitoring.retraining_requests import RetrainingStep

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
SHOWN_FEATURES = 12
SHOWN_PLOTS = 6
SHOWN_STEPS = 20
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
    drift, skew, quality = (result.outcomes[check] for check in ("drift", "skew", "quality"))
    moved: list[FeatureDrift] = []
    if isinstance(drift, DriftReport):
        moved = [*([drift.scores] if drift.scores else []), *drift.features[:SHOWN_FEATURES]]
    with charts.drawing():
        courses = [charts.inline_svg(figure, name) for name, figure in _courses(series)]
        histograms = list(_histograms(drift, result, window))
    return render(
        TEMPLATE,
        result=result,
        **result.outcomes,
        alerts=alerts,
        firing=sum(alert.state == "firing" for alert in alerts),
        courses=courses,
        moved=moved,
        histograms=histograms,
        skewed=list(_skew_rows(skew)) if isinstance(skew, SkewReport) else [],
        broken=[(c.name, c.subject, f"{c.value:.4g}", f"{c.limit:.4g}") for c in quality.broken]
        if isinstance(quality, QualityReport)
        else [],
        steps=[
            (f"{each.at:%d %b %H:%M:%S}", each.request_id or "–", each.step, each.detail)
            for each in reversed(steps[-SHOWN_STEPS:])
        ],
    )


def _courses(series: Sequence[Point]) -> Iterator[tuple[str, Figure]]:
    """The course of each metric: of the champion where it has arms, else of all."""
    for metric in SERIES:
        of = [p for p in series if p.metric == metric and p.labels in ({}, {"arm": "champion"})]
        of = [p for p in of if p.labels] or of
        if len(of) < 2:
            continue
        hours = [(p.as_of - of[-1].as_of).total_seconds() / 3600 for p in of]
        figure, axes = charts.new_figure(5.6, 3)
        axes.plot(hours, [p.value for p in of], color=charts.BLUE)
        axes.plot(hours[-1:], [of[-1].value], color=charts.ORANGE, marker="o")
        axes.set(title=metric.replace("_", " "), xlabel="hours before now")
        yield metric, figure


def _histograms(drift: object, result: PassResult, window: Sequence[Histogram]) -> Iterator[Markup]:
    """Features that moved: the training as bars, the window as a line."""
    reference = result.serving.reference if result.serving else None
    if reference is None or not isinstance(drift, DriftReport):
        return
    before = {column.name: column for column in reference.features.columns}
    now = {column.name: column for column in window}
    for each in drift.drifted[:SHOWN_PLOTS]:
        if each.name in now:
            yield charts.inline_svg(overlay(before[each.name], now[each.name]), each.name)


def overlay(before: Histogram, now: Histogram) -> Figure:
    """Two histograms of the same bins: the training as bars, the window as a line."""
    shares = [
        np.append(each.counts, [each.missing + each.unseen]) / max(each.n, 1)
        for each in (before, now)
    ]
    bins = np.arange(len(shares[0]))
    figure, axes = charts.new_figure(5.6, 3.6)
    axes.bar(bins, shares[0], color=charts.BLUE, alpha=0.35, label="training")
    axes.plot(bins, shares[1], color=charts.ORANGE, label="now")
    axes.set(title=before.name, xlabel="bin (last: missing or unseen)", ylabel="share")
    axes.legend()
    return figure


def _skew_rows(report: SkewReport) -> Iterator[tuple[str, str, str, str]]:
    for each in report.features[:SHOWN_FEATURES]:
        causes = ", ".join(f"{cause} {n:,}" for cause, n in each.causes.items() if n)
        share = percent(each.mismatches / max(report.n, 1), 2)
        yield each.name, f"{each.mismatches:,}", share, causes
