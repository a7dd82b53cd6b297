"""What a reader must know before using a model, in sentences made from what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from models.lineage import Recipe
from models.reports.evaluation_report import EvaluationReport

if TYPE_CHECKING:
    from models.training.fit import Trained

NOTABLE_PARITY_RATIO = 0.8
"""The four-fifths rule: a selection rate below 80 % of another is notable (US EEOC, 1978)."""
REASONS = {
    "balanced": "accuracy and F1 together",
    "f1": "F1",
    "accuracy": "accuracy",
    "cost": "the cost of errors",
    "precision": "as many 1s as the target precision allows",
}


def limits(trained: Trained, recipe: Recipe, report: EvaluationReport) -> Iterator[str]:
    """Give one sentence a limit, as HTML."""
    yield from _scope(trained, recipe)
    yield from _protected(trained, report)
    yield from _uneven(report)
    yield from _absent(trained)


def _scope(trained: Trained, recipe: Recipe) -> Iterator[str]:
    settings = recipe.settings
    yield (
        f"It knows labels of {settings['start'][:10]} up to, not including, "
        f"{settings['end'][:10]}. What has changed since, it does not know."
    )
    yield (
        f"It says 1 from a probability of {trained.model.threshold:.3f} on, chosen on validation "
        f"rows by {REASONS[settings['threshold_objective']]}. Who weighs errors otherwise needs "
        "another threshold."
    )


def _protected(trained: Trained, report: EvaluationReport) -> Iterator[str]:
    schema, importance = trained.split.train.features.schema, trained.model.importance()
    used = [n for n in importance if schema.features[schema.position(n)].protected]
    if used:
        share = sum(importance[name] for name in used)
        yield (
            f"{len(used)} of its {len(importance)} features tell of protected attributes; they "
            f"make up {share:.0%} of the importance. <code>--exclude-protected</code> trains "
            "without them."
        )
    else:
        yield (
            "It takes no feature that tells of a protected attribute. Others may still stand in "
            "for one: see its fairness."
        )
    ratios = [
        each for each in report.fairness if each.demographic_parity_ratio < NOTABLE_PARITY_RATIO
    ]
    for each in ratios:
        yield (
            f"By <code>{escape(each.by)}</code>, <b>{escape(each.least_selected)}</b> gets a 1 "
            f"{each.demographic_parity_ratio:.0%} as often as <b>{escape(each.most_selected)}</b> "
            f"(true positive rates differ by {each.true_positive_rate_difference:.2f})."
        )


def _uneven(report: EvaluationReport) -> Iterator[str]:
    large = [each for each in report.slices if not each.is_small]
    if len(large) > 1:
        worst = min(large, key=lambda each: each.metrics["roc_auc"].value)
        auc = worst.metrics["roc_auc"]
        yield (
            f"It ranks worst among <code>{escape(worst.by)}</code> = <b>{escape(worst.word)}</b>: "
            f"ROC-AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})."
        )
    off = [
        f"{escape(each.by)} = {escape(each.word)} ({each.metrics['calibration_gap'].value:+.3f})"
        for each in large
        if not each.metrics["calibration_gap"].low <= 0 <= each.metrics["calibration_gap"].high
    ]
    if off:
        yield f"Its probabilities are off on average for {', '.join(off)}."
    few = len(report.slices) - len(large)
    if few:
        yield f"{few} of {len(report.slices)} slices are too small to be judged."


def _absent(trained: Trained) -> Iterator[str]:
    metrics = trained.metrics
    if "log_loss_request_attributes" in metrics:
        yield (
            "With the attributes of a request alone its log loss is "
            f"{metrics['log_loss_request_attributes']:.3f}, with everything known "
            f"{metrics['log_loss']:.3f}; always saying the base rate has "
            f"{metrics['log_loss_base_rate']:.3f}."
        )
