"""Pages for people: templates under ``templates/`` draw what programs have measured."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
TITLES = {
    "accuracy": "Accuracy",
    "accuracy_at_threshold": "Accuracy at the threshold",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error",
    "f1_score": "F1",
    "f1_score_at_half": "F1 at 0.5",
    "precision": "Precision",
    "recall": "Recall",
    "selection_rate": "Said 1",
    "false_positive_rate": "False positives",
    "calibration_gap": "Said − was",
}
"""What people call metrics."""


def render(template: Path, **values: Any) -> str:
    """Write a page as one HTML file that needs no other.

    Parameters
    ----------
    template
        It may extend ``page.html`` and import ``parts.html``, which lie with this module.
    values
        What it draws; text is escaped unless it is Markup.
    """
    return _environment(template.parent).get_template(template.name).render(**values)


def number(value: float, digits: int = 4) -> str:
    """A number, or a dash where nothing can be said."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    """A share in percent, or a dash."""
    return "–" if math.isnan(value) else f"{value:.{digits}%}"


def between(estimate: Estimate, digits: int = 4) -> str:
    """The ends of an interval."""
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"


def place(value: float, low: float, high: float) -> float:
    """Where a value lies on a line of 100 units from ``low`` to ``high``, two units from its ends.

    Examples
    --------
    >>> place(0.5, 0, 1), place(7, 0, 1)
    (50.0, 98.0)
    """
    return round(2 + 96 * min(max((value - low) / (high - low), 0.0), 1.0), 1)


@cache
def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "percent": percent, "between": between, "place": place}
    made.tests |= {"finite": math.isfinite, "skipped": lambda outcome: hasattr(outcome, "reason")}
    made.globals["TITLES"] = TITLES
    return made
