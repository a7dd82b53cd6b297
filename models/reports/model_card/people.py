"""The sections about groups of people: quality by slice, and fairness."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from models.evaluation.slices import Slice
from models.reports.evaluation_report import EvaluationReport
from models.reports.model_card import charts
from models.reports.model_card.parts import TITLES, between, folded, number, percent, section, table

MARKS = ("roc_auc", "accuracy")
SHARES = ("selection_rate", "recall", "false_positive_rate")


def slices_section(report: EvaluationReport, smallest: int) -> str:
    """Quality by slice, each value with a mark of its interval."""
    ends = {name: _ends(report.slices, name) for name in MARKS}
    head = ["", "rows", "label 1"]
    for name in MARKS:
        head += [TITLES[name], ""]
    head += [TITLES[name] for name in SHARES] + [TITLES["calibration_gap"]]
    rows, before = [], ""
    for each in report.slices:
        if each.by != before:
            rows.append(_heading(each.by, len(head)))
            before = each.by
        rows.append(_row(each, ends))
    body = "".join(f'<th class="{"n" if p else ""}">{name}</th>' for p, name in enumerate(head))
    content = f'<div class="scroll"><table><tr>{body}</tr>{"".join(rows)}</table></div>'
    return section(
        "Group by group",
        content,
        folded("All intervals", _all_intervals(report.slices)),
        about=f"Slices of the test rows. Pale ones have fewer than {smallest} rows, or hardly any "
        "of a label: their numbers say little. “Said − was” is the mean probability less the "
        "share of 1s.",
    )


def fairness_section(report: EvaluationReport) -> Iterator[str]:
    """Differences between groups, by protected attribute; nothing where there are none."""
    if not report.fairness:
        return
    rows = [
        (
            f"<code>{escape(each.by)}</code>",
            number(each.demographic_parity_difference, 3),
            number(each.demographic_parity_ratio, 3),
            number(each.true_positive_rate_difference, 3),
            number(each.false_positive_rate_difference, 3),
            number(each.equalized_odds_difference, 3),
            f"{escape(each.least_selected)} · {escape(each.most_selected)}",
            escape(", ".join(each.left_out)) or "–",
        )
        for each in report.fairness
    ]
    head = (
        *("attribute", "selection rate, difference", "ratio", "TPR difference"),
        *("FPR difference", "equalised odds", "least · most often 1", "too few rows"),
    )
    yield section(
        "Fairness",
        table(head, rows, numbers=(1, 2, 3, 4, 5)),
        about="How differently the decisions treat the groups of each protected attribute: the "
        "largest rate less the smallest. 0 is equal; of the ratio, 1 is. Different shares of 1s "
        "among the labels alone make selection rates differ.",
    )


def _ends(slices: tuple[Slice, ...], name: str) -> tuple[float, float]:
    large = [
        s.metrics[name] for s in slices if not s.is_small and np.isfinite(s.metrics[name].value)
    ]
    if not large:
        return 0, 1
    low, high = min(e.low for e in large), max(e.high for e in large)
    return low - 0.02, max(high + 0.02, low + 0.01)


def _heading(by: str, width: int) -> str:
    return f'<tr class="group"><td colspan="{width}"><code>{escape(by)}</code></td></tr>'


def _row(each: Slice, ends: dict[str, tuple[float, float]]) -> str:
    tag = '<span class="tag">small</span>' if each.is_small else ""
    cells = [
        f"<td>{escape(each.word)}{tag}</td>",
        _n(f"{each.n:,}"),
        _n(percent(each.positives / each.n)),
    ]
    for name in MARKS:
        estimate = each.metrics[name]
        cells += [
            _n(number(estimate.value, 3)),
            f"<td>{charts.interval(estimate, *ends[name])}</td>",
        ]
    cells += [_n(percent(each.metrics[name].value)) for name in SHARES]
    gap = each.metrics["calibration_gap"]
    is_off = not each.is_small and not gap.low <= 0 <= gap.high
    cells.append(f'<td class="n{" worse" if is_off else ""}">{gap.value:+.3f}</td>')
    return f'<tr class="{"few" if each.is_small else ""}">{"".join(cells)}</tr>'


def _all_intervals(slices: tuple[Slice, ...]) -> str:
    names = list(slices[0].metrics) if slices else []
    rows = [
        (f"{escape(s.by)} = {escape(s.word)}", *(between(s.metrics[name], 3) for name in names))
        for s in slices
    ]
    return table(("", *(TITLES[name] for name in names)), rows, numbers=range(1, len(names) + 1))


def _n(content: str) -> str:
    return f'<td class="n">{content}</td>'
