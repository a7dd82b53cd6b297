"""The model card: one HTML page of what training and evaluation know of a model.

What must be known before using it comes first, in sentences made from what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation.slices import Slice
from models.lineage import Recipe, git_commit
from models.reports import charts
from models.reports.evaluation_report import EvaluationReport
from models.reports.pages import TEMPLATES, TITLES, between, number, percent, render

if TYPE_CHECKING:
    from markupsafe import Markup

    from models.training.fit import Trained

HEADLINE = ("accuracy", "roc_auc", "log_loss", "f1_score", "brier")
MARKS = ("roc_auc", "accuracy")
SHARES = ("selection_rate", "recall", "false_positive_rate")
NOTABLE_PARITY_RATIO = 0.8
"""The four-fifths rule: a selection rate below 80 % of another is notable (US EEOC, 1978)."""
SHOWN_STEPS = 9
REASONS = {
    "balanced": "accuracy and F1 together",
    "f1": "F1",
    "accuracy": "accuracy",
    "cost": "the cost of errors",
    "precision": "as many 1s as the target precision allows",
}
OF_ABSENCE = {
    "log_loss_request_attributes": "Log loss, a request's attributes alone",
    "log_loss_all_missing": "Log loss, nothing known",
    "log_loss_base_rate": "Log loss of the best constant",
}
COMPARED = ("accuracy", "roc_auc", "pr_auc", "log_loss", "brier", "f1_score", "ece")


def model_card(
    trained: Trained, recipe: Recipe, report: EvaluationReport, started_at: datetime
) -> str:
    """Write the card of a model as one HTML page that needs nothing from elsewhere."""
    features = list(_features(trained))
    tuned = report.extras.tuned
    large = [each for each in report.slices if not each.is_small]
    with charts.drawing():
        drawn, examples = _charts(report), list(_examples(report))
    return render(
        TEMPLATES / "model_card.html",
        trained=trained,
        recipe=recipe,
        report=report,
        started_at=started_at,
        headline=HEADLINE,
        objective=REASONS[recipe.settings["threshold_objective"]],
        notable_ratio=NOTABLE_PARITY_RATIO,
        features=features,
        protected=[each for each in features if each["protected"]],
        worst=min(large, key=lambda each: each.metrics["roc_auc"].value)
        if len(large) > 1
        else None,
        off=[each for each in large if not _holds_zero(each)],
        small=len(report.slices) - len(large),
        n=len(report.labels),
        ones=int(report.labels.sum()),
        quality=list(_quality(trained, report)),
        whole=list(_with_protected(trained, report)),
        marks={name: _ends(large, name) for name in MARKS},
        shares=SHARES,
        groups=[(by, list(of)) for by, of in groupby(report.slices, lambda each: each.by)],
        charts=drawn,
        examples=examples,
        best={name: _text(value) for name, value in (tuned.best if tuned else {}).items()},
        curve=[
            (f"{p.rows:,}", number(p.log_loss.value), number(p.roc_auc.value), f"{p.seconds:.1f} s")
            for p in report.extras.curve
        ],
        parts=list(_parts(trained)),
        origin=_origin(recipe),
        learned={**recipe.settings["params"], **trained.model.facts()},
        whole_settings=json.dumps(recipe.settings, indent=1),
    )


def _charts(report: EvaluationReport) -> dict[str, Markup]:
    """The charts of the card by name; empty where there is nothing to draw."""
    labels, probabilities, threshold = report.labels, report.probabilities, report.threshold
    tuned, curve = report.extras.tuned, report.extras.curve
    figures = {
        "roc": charts.roc_curve(labels, probabilities, threshold),
        "confusion": charts.confusion_matrix(labels, probabilities, threshold),
        "calibration": charts.calibration(report.reliability),
        "contributions": charts.contribution_summary(report.explained),
        "tuning": charts.tuning_history(tuned) if tuned else None,
        "matters": charts.tuning_importance(tuned) if tuned and tuned.importance else None,
        "learning": charts.learning_curve([(p.rows, p.log_loss) for p in curve]) if curve else None,
    }
    return {name: charts.inline_svg(figure, name) for name, figure in figures.items()}


def _examples(report: EvaluationReport) -> Iterator[Markup]:
    """Two explained rows, of a high and of the middle probability, feature by feature."""
    from markupsafe import Markup

    explained = report.explained
    schema = explained.rows.schema
    by_margin = np.argsort(explained.margin, kind="stable")
    for row in by_margin[[int(0.99 * (len(by_margin) - 1)), len(by_margin) // 2]].tolist():
        values, base, margin = explained.values[row], explained.base[row], explained.margin[row]
        decoded = schema.decode_places(explained.rows.values[row])
        order = np.argsort(-np.abs(values), kind="stable")
        most, rest = order[:SHOWN_STEPS], order[SHOWN_STEPS:]
        names = [f"{schema.names[p]} = {_text(decoded[schema.names[p]])}" for p in most]
        steps = charts.waterfall(
            [*names, f"{len(rest)} others"], [*values[most], float(values[rest].sum())], base
        )
        said = f"From log-odds of {base:.2f} to {margin:.2f}: {1 / (1 + np.exp(-margin)):.1%}"
        yield Markup("<p>{}</p>{}").format(said, charts.inline_svg(steps, f"row {row}"))


def _quality(trained: Trained, report: EvaluationReport) -> Iterator[tuple[str, str, str]]:
    for name, estimate in report.headline.items():
        yield TITLES[name], number(estimate.value), between(estimate)
    for name, title in OF_ABSENCE.items():
        if name in trained.metrics:
            yield title, number(trained.metrics[name]), ""


def _with_protected(trained: Trained, report: EvaluationReport) -> Iterator[tuple[str, ...]]:
    """Metric, this model, the model with protected features, and the difference."""
    whole = report.extras.whole
    if whole is None:
        return
    for name in COMPARED:
        ours, theirs, gain = trained.metrics[name], whole.metrics[name], whole.gains.get(name)
        paired = (
            f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
            if gain
            else f"{theirs - ours:+.4f}"
        )
        yield TITLES[name], number(ours), number(theirs), paired
    for each in report.fairness:
        ours, theirs = each.demographic_parity_difference, whole.parity.get(each.by, np.nan)
        name = f"Difference of selection rates by {each.by}"
        yield name, number(ours), number(theirs), f"{theirs - ours:+.4f}"


def _features(trained: Trained) -> Iterator[dict[str, Any]]:
    """Every feature that the model takes, the most important first."""
    train = trained.split.train.features
    for name, share in trained.model.importance().items():
        place = train.schema.position(name)
        feature, column = train.schema.features[place], train.values[:, place]
        absent = column < 2 if feature.kind == "category" else np.isnan(column)
        yield {
            "name": name,
            "kind": feature.kind,
            "importance": share,
            "missing": float(absent.mean()),
            "protected": feature.protected,
            "description": feature.description,
        }


def _parts(trained: Trained) -> Iterator[tuple[str, str, str]]:
    split = trained.split
    for name, part in (
        ("training", split.train),
        ("validation: when to stop, threshold", split.validation),
        ("test: judges once", split.test),
    ):
        yield name, f"{len(part):,}", percent(float(part.labels.mean()))


def _origin(recipe: Recipe) -> dict[str, object]:
    return {
        "git commit": git_commit(),
        "data set (SHA-256)": recipe.dataset.digest,
        "schema fingerprint": recipe.dataset.fingerprint,
        "training key": recipe.training_key,
        "seed": recipe.settings["seed"],
        "packages": ", ".join(f"{name} {version}" for name, version in recipe.packages.items()),
    }


def _holds_zero(each: Slice) -> bool:
    gap = each.metrics["calibration_gap"]
    return gap.low <= 0 <= gap.high


def _ends(slices: list[Slice], name: str) -> tuple[float, float]:
    """The ends of a line on which all intervals of a metric fit."""
    found = [each.metrics[name] for each in slices if np.isfinite(each.metrics[name].value)]
    if not found:
        return 0, 1
    low, high = min(each.low for each in found), max(each.high for each in found)
    return low - 0.02, max(high + 0.02, low + 0.01)


def _text(value: object) -> str:
    if value is None:
        return "missing"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
