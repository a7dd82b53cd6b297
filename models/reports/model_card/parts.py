"""Pieces of HTML that the sections of the card are put together from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from models.evaluation.intervals import Estimate

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


def section(title: str, *parts: str, about: str = "") -> str:
    """A titled part of the page."""
    said = f'<p class="soft">{about}</p>' if about else ""
    return f"<section><h2>{escape(title)}</h2>{said}{''.join(parts)}</section>"


def tile(name: str, value: str, below: str = "") -> str:
    """A number that is seen first."""
    return f'<div class="tile"><span>{escape(name)}</span><b>{value}</b><span>{below}</span></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; cells are HTML, columns whose places are in ``numbers`` are set to the right."""

    def cell(kind: str, place: int, content: str) -> str:
        return f"<{kind}{' class=n' if place in numbers else ''}>{content}</{kind}>"

    top = "".join(cell("th", place, name) for place, name in enumerate(head))
    body = "".join(
        f"<tr>{''.join(cell('td', place, each) for place, each in enumerate(row))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def facts(values: Mapping[str, object]) -> str:
    """Names and values, one a line."""
    rows = [
        (escape(str(name)), f"<code>{escape(str(value))}</code>") for name, value in values.items()
    ]
    return table(("", ""), rows).replace("<tr><th></th><th></th></tr>", "")


def columns(*parts: str) -> str:
    """Parts beside each other where there is room."""
    return f'<div class="columns">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def folded(summary: str, content: str) -> str:
    """Something long that is seen when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def number(value: float, digits: int = 4) -> str:
    """A number, or a dash where nothing can be said."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    """A share in percent, or a dash."""
    return "–" if math.isnan(value) else f"{value:.{digits}%}"


def between(estimate: Estimate, digits: int = 4) -> str:
    """The ends of an interval."""
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"
