"""Small charts as inline SVG; colours come from the style sheet, so that they turn dark with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluation.calibration import Bin
from models.evaluation.explanations import Contributions
from models.evaluation.intervals import Estimate
from models.reports.model_card.frame import Frame, short, svg, text, ticks
from models.reports.search_plots import value_shares

Numbers = NDArray[np.float64]
SHADES = 7
SHOWN_FEATURES = 15
CURVE_POINTS = 160


def roc(labels: NDArray[np.int8], probabilities: NDArray[np.float32], threshold: float) -> str:
    """True against false positive rate, with the point at which the model decides."""
    order = np.argsort(-probabilities, kind="stable")
    ones = labels[order] == 1
    tpr, fpr = np.cumsum(ones) / ones.sum(), np.cumsum(~ones) / (~ones).sum()
    at = np.unique(np.linspace(0, len(ones) - 1, CURVE_POINTS).astype(int))
    xs, ys = [0.0, *fpr[at]], [0.0, *tpr[at]]
    frame = Frame((0, 1), (0, 1), ("false positive rate", "true positive rate"))
    frame.line((0, 1), (0, 1), "zero")
    frame.parts.append(f'<path class="area" d="{frame.path([*xs, 1], [*ys, 0])}Z"/>')
    frame.line(xs, ys)
    decided = probabilities >= threshold
    frame.dot(float(decided[labels == 0].mean()), float(decided[labels == 1].mean()), "point", 5.5)
    return frame.svg("ROC curve")


def reliability(bins: Sequence[Bin]) -> str:
    """Predicted against observed, with intervals."""
    frame = Frame((0, 1), (0, 1), ("predicted probability", "observed share of 1s"))
    frame.line((0, 1), (0, 1), "zero")
    frame.line([b.predicted for b in bins], [b.observed.value for b in bins])
    for each in bins:
        frame.whisker(each.predicted, each.observed)
        frame.dot(each.predicted, each.observed.value)
    return frame.svg("Calibration")


def confusion(counts: tuple[int, int, int, int]) -> str:
    """How often each label was predicted as which; shares are of each label."""
    tp, fp, fn, tn = counts
    parts = []
    for row, (name, values) in enumerate((("is 0", (tn, fp)), ("is 1", (fn, tp)))):
        parts.append(text(52, 78 + row * 112, name, "end"))
        for column, count in enumerate(values):
            share = count / max(sum(values), 1)
            x, y = 62 + column * 166, 24 + row * 112
            parts.append(
                f'<rect class="cell" x="{x}" y="{y}" width="158" height="104" rx="8" '
                f'opacity="{0.08 + 0.42 * share:.2f}"/>'
                f'<text class="ink" x="{x + 79}" y="{y + 52}" text-anchor="middle" '
                f'style="font-size:19px;font-weight:600">{count:,}</text>'
                + text(x + 79, y + 74, f"{share:.1%}", "middle")
            )
    parts += [text(141, 14, "said 0", "middle"), text(307, 14, "said 1", "middle")]
    return svg(400, 250, "Decisions", "".join(parts))


def interval(estimate: Estimate, low: float, high: float) -> str:
    """A value with its interval as a small mark on a line, for a cell of a table."""
    if not np.isfinite(estimate.value):
        return ""

    def x(value: float) -> float:
        return round(2 + 96 * float(np.clip((value - low) / (high - low), 0, 1)), 1)

    return (
        '<svg viewBox="0 0 100 12" style="width:100px;height:12px" aria-hidden="true">'
        f'<path class="axis" d="M0 6H100"/><path class="whisker" d="M{x(estimate.low)} 6'
        f'H{x(estimate.high)}"/><circle class="dot" cx="{x(estimate.value)}" cy="6" r="3"/></svg>'
    )


def swarm(explained: Contributions) -> str:
    """A dot for each explained row and feature, by what it adds; coloured by its value."""
    names = list(explained.mean_size())[:SHOWN_FEATURES]
    places = [explained.rows.schema.position(name) for name in names]
    low, high = np.quantile(explained.values[:, places], [0.001, 0.999])
    random = np.random.default_rng(0)
    step, left, width = 25, 172, 900
    scale = (width - left - 20) / (high - low)
    bottom = step * len(names) + 4
    parts = []
    for value in ticks(float(low), float(high)):
        x = left + (value - low) * scale
        kind = "zero" if value == 0 else "axis"
        parts.append(f'<path class="{kind}" d="M{x:.1f} 0V{bottom}"/>')
        parts.append(text(x, bottom + 15, short(value), "middle"))
    for line, (name, place) in enumerate(zip(names, places, strict=True)):
        middle = step * line + step / 2
        parts.append(text(left - 12, middle + 4, name, "end", "ink"))
        added = np.clip(explained.values[:, place], low, high)
        shade = np.round(value_shares(explained.rows.values[:, place]) * (SHADES - 1)).astype(int)
        xs = left + (added - low) * scale
        ys = middle + 9 * random.uniform(-1, 1, len(added)) * _crowding(xs)
        parts += _dots(xs, ys, shade)
    parts.append(
        text((left + width) / 2, bottom + 32, "contribution to the log-odds of 1", "middle")
    )
    return svg(width, bottom + 38, "What features add", "".join(parts))


def waterfall(names: Sequence[str], added: Sequence[float], base: float) -> str:
    """How a prediction comes about: from the base, feature by feature, to its log-odds."""
    ends = np.cumsum([base, *added])
    low, high = float(ends.min()), float(ends.max())
    step, left, width = 20, 214, 480
    scale = (width - left - 50) / max(high - low, 1e-9)
    parts = []
    for line, (name, value) in enumerate(zip(names, added, strict=True)):
        start, end = left + (ends[line] - low) * scale, left + (ends[line + 1] - low) * scale
        y = step * line
        kind = "up" if value > 0 else "down"
        parts.append(text(left - 10, y + 13, name, "end", "ink"))
        parts.append(
            f'<rect class="{kind}" x="{min(start, end):.1f}" y="{y + 3}" rx="2" '
            f'width="{max(abs(end - start), 1):.1f}" height="{step - 7}"/>'
        )
        parts.append(text(max(start, end) + 5, y + 13, f"{value:+.2f}"))
    return svg(width, step * len(names) + 4, "One prediction", "".join(parts))


def history(trials: Sequence[tuple[int, float, bool]]) -> str:
    """The value of each trial (number, value, whether it was cut short), and the best so far."""
    whole = [(number, value) for number, value, cut in trials if not cut]
    values = np.array([value for _, value in whole])
    least, most = float(values.min()), float(np.quantile(values, 0.95))
    room = max(most - least, 1e-4)
    frame = Frame(
        (-0.5, max(number for number, *_ in trials) + 0.5),
        (least - 0.1 * room, most + 0.25 * room),
        ("trial", "cross-validated log loss"),
    )
    for number, value, cut in trials:
        shown = min(value, most + 0.2 * room)
        frame.dot(number, shown, "hollow" if cut else "dot", 3)
    frame.line([number for number, _ in whole], np.minimum.accumulate(values), "best")
    return frame.svg("Tuning")


def learning(points: Sequence[tuple[int, Estimate]]) -> str:
    """Log loss by the number of training rows, with intervals."""
    low = min(estimate.low for _, estimate in points)
    high = max(estimate.high for _, estimate in points)
    room = 0.08 * max(high - low, 1e-6)
    frame = Frame(
        (0, points[-1][0] * 1.05), (low - room, high + room), ("training rows", "log loss")
    )
    frame.line([rows for rows, _ in points], [estimate.value for _, estimate in points])
    for rows, estimate in points:
        frame.whisker(rows, estimate)
        frame.dot(rows, estimate.value)
    return frame.svg("Learning curve")


def bars(shares: Mapping[str, float], most: int = 12) -> str:
    """Shares by name, largest first."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])[:most]
    largest = max((share for _, share in ranked), default=1) or 1
    parts = []
    for line, (name, share) in enumerate(ranked):
        y = 22 * line
        parts.append(text(150, y + 14, name, "end", "ink"))
        width = 190 * share / largest
        parts.append(
            f'<rect class="bar" x="160" y="{y + 3}" width="{width:.1f}" height="14" rx="3"/>'
        )
        parts.append(text(166 + width, y + 14, f"{share:.1%}"))
    return svg(400, 22 * len(ranked), "Shares", "".join(parts))


def _crowding(xs: Numbers) -> Numbers:
    """How crowded the place of each dot is: 1 where it is most."""
    place = np.floor(xs / 6).astype(int)
    crowd = np.bincount(place - place.min())[place - place.min()]
    share: Numbers = np.sqrt(crowd / crowd.max())
    return share


def _dots(xs: Numbers, ys: Numbers, shade: NDArray[np.int64]) -> list[str]:
    """All dots of one colour as one path of points with round ends: few bytes each."""
    parts = []
    for number in range(SHADES):
        d = "".join(
            f"M{x:.0f} {y:.0f}h0"
            for x, y in zip(xs[shade == number], ys[shade == number], strict=True)
        )
        if d:
            share = 200 * number / (SHADES - 1)
            low, high, part = (
                ("low", "middle", share) if share < 100 else ("middle", "high", share - 100)
            )
            mixed = f"color-mix(in srgb, var(--{high}) {part:.0f}%, var(--{low}))"
            parts.append(
                f'<path d="{d}" style="stroke:{mixed};stroke-width:4.4;stroke-linecap:round;'
                'opacity:.75"/>'
            )
    return parts
