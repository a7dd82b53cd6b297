"""Puts the card together: every section from what training and judging already know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from models.evaluation.metrics import counts
from models.lineage import Recipe, git_commit
from models.reports.evaluation_report import EvaluationReport
from models.reports.model_card import charts
from models.reports.model_card.limits import limits
from models.reports.model_card.parts import (
    TITLES,
    between,
    columns,
    facts,
    folded,
    number,
    percent,
    section,
    table,
    tile,
)
from models.reports.model_card.people import fairness_section, slices_section
from models.reports.model_card.style import STYLE

if TYPE_CHECKING:
    from models.training.fit import Trained

HEADLINE = ("accuracy", "roc_auc", "log_loss", "f1_score", "brier")
SHOWN_EXAMPLES = 2
SHOWN_STEPS = 9


def model_card(
    trained: Trained, recipe: Recipe, report: EvaluationReport, started_at: datetime
) -> str:
    """Write the card of a model as one HTML page that needs nothing from elsewhere."""
    settings, model = recipe.settings, trained.model
    title = f"{settings['experiment_name']}: {model.title}"
    about = (
        f"Trained {started_at:%d %B %Y, %H:%M} UTC · {recipe.dataset.n_samples:,} rows · "
        f"{recipe.dataset.n_features} features of <code>{escape(recipe.dataset.name)}</code> · "
        f"threshold {model.threshold:.3f}"
    )
    sections = [
        _limits(trained, recipe, report),
        _quality(trained, report),
        *_cost_of_excluding(trained, report),
        slices_section(report, settings["evaluation"]["smallest_slice"]),
        *fairness_section(report),
        _explained(report),
        *_tuning(report),
        *_learning(report),
        _data(trained, recipe),
        _lineage(trained, recipe),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="soft">{about}</p></header>'
        f'<div class="tiles">{"".join(_tiles(trained, report))}</div>'
        f"{''.join(sections)}"
        "<footer>Intervals hold 95 %. Rows of the test part decided nothing before they judged. "
        f"Training key <code>{recipe.training_key[:16]}</code>.</footer>"
        "</main></body></html>"
    )


def _tiles(trained: Trained, report: EvaluationReport) -> Iterator[str]:
    for name in HEADLINE:
        estimate = report.headline[name]
        yield tile(TITLES[name], number(estimate.value), between(estimate))
    yield tile(TITLES["ece"], number(trained.metrics["ece"]), "15 bins of equal width")


def _limits(trained: Trained, recipe: Recipe, report: EvaluationReport) -> str:
    found = "".join(f"<li>{line}</li>" for line in limits(trained, recipe, report))
    return section("What to know before using it", f"<ul>{found}</ul>")


def _quality(trained: Trained, report: EvaluationReport) -> str:
    n, ones = len(report.labels), int(report.labels.sum())
    rows = [
        (TITLES[name], number(estimate.value), between(estimate))
        for name, estimate in report.headline.items()
    ]
    masked = [
        (title, number(trained.metrics[name]), "")
        for name, title in (
            ("log_loss_request_attributes", "Log loss, a request's attributes alone"),
            ("log_loss_all_missing", "Log loss, nothing known"),
            ("log_loss_base_rate", "Log loss of the best constant"),
        )
        if name in trained.metrics
    ]
    decided = counts(report.labels, report.probabilities, report.threshold)
    head = ("", "value", "95 % interval")
    return section(
        "How good it is",
        columns(
            "<h3>Metrics</h3>" + table(head, rows + masked, numbers=(1, 2)),
            "<h3>ROC curve, and where it decides</h3>"
            + charts.roc(report.labels, report.probabilities, report.threshold),
            "<h3>Decisions at the threshold</h3>" + charts.confusion(decided),
            "<h3>Calibration, by tenths of the rows</h3>" + charts.reliability(report.reliability),
        ),
        about=f"On {n:,} test rows, {ones:,} of them ({ones / n:.1%}) with label 1.",
    )


def _cost_of_excluding(trained: Trained, report: EvaluationReport) -> Iterator[str]:
    whole = report.extras.whole
    if whole is None:
        return
    names = ("accuracy", "roc_auc", "pr_auc", "log_loss", "brier", "f1_score", "ece")
    rows = []
    for name in names:
        ours, theirs = trained.metrics[name], whole.metrics[name]
        gain = whole.gains.get(name)
        paired = (
            f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
            if gain
            else (f"{theirs - ours:+.4f}")
        )
        rows.append((TITLES[name], number(ours), number(theirs), paired))
    for each in report.fairness:
        ours, theirs = each.demographic_parity_difference, whole.parity.get(each.by, np.nan)
        name = f"Difference of selection rates by <code>{escape(each.by)}</code>"
        rows.append((name, number(ours), number(theirs), f"{theirs - ours:+.4f}"))
    yield section(
        "What leaving protected features out costs",
        table(("", "this model", "with them", "difference"), rows, numbers=(1, 2, 3)),
        about="Both were trained and judged on the same split. Where an interval is given, it is "
        "that of the mean difference over the same rows.",
    )


def _explained(report: EvaluationReport) -> str:
    explained = report.explained
    order = np.argsort(explained.margin, kind="stable")
    shown = order[[int(0.99 * (len(order) - 1)), len(order) // 2]][:SHOWN_EXAMPLES]
    examples = [_example(report, int(row)) for row in shown]
    return section(
        "What features add",
        charts.swarm(explained),
        "<h3>Two of these rows</h3>",
        columns(*examples),
        about=f"{len(explained.base):,} test rows, a dot each: to the right a feature raises the "
        "probability of 1. Blue are low values of the feature, red are high ones; of categories, "
        f"early and late words. {escape(explained.method)}; they sum to the log-odds.",
    )


def _example(report: EvaluationReport, row: int) -> str:
    explained = report.explained
    values, schema = explained.values[row], explained.rows.schema
    decoded = schema.decode(explained.rows.values[row])
    order = np.argsort(-np.abs(values), kind="stable")
    most, rest = order[:SHOWN_STEPS], order[SHOWN_STEPS:]
    names = [f"{schema.names[p]} = {_said(decoded[schema.names[p]])}" for p in most]
    steps = charts.waterfall(
        [*names, f"{len(rest)} others"], [*values[most], values[rest].sum()], explained.base[row]
    )
    base, margin = explained.base[row], explained.margin[row]
    said = f"From log-odds of {base:.2f} to {margin:.2f}: {1 / (1 + np.exp(-margin)):.1%}"
    return f"<p>{said}</p>{steps}"


def _tuning(report: EvaluationReport) -> Iterator[str]:
    tuned = report.extras.tuned
    if tuned is None:
        return
    trials = [(t.number, t.value, t.was_pruned) for t in tuned.trials if t.value is not None]
    cut = sum(t.was_pruned for t in tuned.trials)
    best = {
        name: f"{value:.5g}" if isinstance(value, float) else value
        for name, value in tuned.best.items()
    }
    yield section(
        "How its settings were found",
        columns(
            "<h3>Trials, and the best so far</h3>" + charts.history(trials),
            "<h3>Best settings</h3>" + facts(best) + _matters(tuned.importance),
        ),
        about=f"{len(tuned.trials)} trials in study <code>{escape(tuned.study)}</code>, {cut} of "
        f"them cut short; best cross-validated log loss {tuned.best_value:.5f}.",
    )


def _matters(importance: Mapping[str, float]) -> str:
    return f"<h3>Which settings matter</h3>{charts.bars(importance)}" if importance else ""


def _learning(report: EvaluationReport) -> Iterator[str]:
    curve = report.extras.curve
    if not curve:
        return
    rows = [
        (f"{p.rows:,}", number(p.log_loss.value), number(p.roc_auc.value), f"{p.seconds:.1f} s")
        for p in curve
    ]
    yield section(
        "Would more rows help?",
        columns(
            charts.learning([(p.rows, p.log_loss) for p in curve]),
            table(("training rows", "log loss", "ROC-AUC", "took"), rows, numbers=(0, 1, 2, 3)),
        ),
    )


def _data(trained: Trained, recipe: Recipe) -> str:
    split, settings, importance = trained.split, recipe.settings, trained.model.importance()
    parts = [
        (name, f"{len(part):,}", percent(float(part.labels.mean())))
        for name, part in (
            ("training", split.train),
            ("validation: when to stop, threshold", split.validation),
            ("test: judges once", split.test),
        )
    ]
    schema = split.train.features.schema
    rows = []
    for name, share in importance.items():
        feature = schema.features[schema.position(name)]
        column = split.train.features.values[:, schema.position(name)]
        absent = column < 2 if feature.kind == "category" else np.isnan(column)
        tag = '<span class="tag">protected</span>' if feature.protected else ""
        rows.append(
            (
                f"<code>{escape(name)}</code>{tag}",
                feature.kind,
                percent(share),
                percent(float(absent.mean())),
                escape(feature.description),
            )
        )
    head = ("feature", "kind", "importance", "missing", "description")
    return section(
        "Data",
        table(("part", "rows", "label 1"), parts, numbers=(1, 2)),
        folded(f"All {len(rows)} features", table(head, rows, numbers=(2, 3))),
        about=f"Labels of {settings['start'][:10]} up to, not including, {settings['end'][:10]}, "
        f"with the features of <code>{escape(recipe.dataset.name)}</code> as of their times.",
    )


def _lineage(trained: Trained, recipe: Recipe) -> str:
    dataset, settings = recipe.dataset, recipe.settings
    origin = {
        "git commit": git_commit(),
        "data set (SHA-256)": dataset.digest,
        "schema fingerprint": dataset.fingerprint,
        "training key": recipe.training_key,
        "seed": settings["seed"],
        "packages": ", ".join(f"{name} {v}" for name, v in recipe.packages.items()),
    }
    learned = {**settings["params"], **trained.model.facts()}
    whole = escape(json.dumps(settings, indent=1))
    return section(
        "Where it comes from",
        facts(origin),
        folded("Hyper-parameters", facts(learned)),
        folded("All training settings", f"<pre>{whole}</pre>"),
    )


def _said(value: object) -> str:
    return (
        "missing" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
    )
