"""The charts of runs, model cards and reports, in one style: PNG files, and SVG inside a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.base import Labels, Values
from models.evaluation.calibration import Bin
from models.evaluation.explanations import Contributions
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import counts

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from models.reports.evaluation_report import EvaluationReport
    from models.training.tuning import Tuned

INK, GREY, LIGHT, BLUE, ORANGE = "#22303c", "#7b8794", "#e4e7eb", "#2563a8", "#d9742b"
LOW, HIGH = "#3b6fc4", "#d1483f"
IN_A_PAGE = {
    **{INK: "--ink", GREY: "--soft", LIGHT: "--line", BLUE: "--blue", ORANGE: "--orange"},
    **{LOW: "--low", HIGH: "--high", "#ffffff": "--sheet"},
}
"""Colour to the variable of the style sheet that turns it dark with the page."""
SQUARE, WIDE, HALF = (5.6, 5.4), (7.5, 4.2), (5.6, 4.2)
MOST_FEATURES, EXPLAINED_FEATURES = 20, 15
CURVE_POINTS = 400
JITTER = 0.32
DASHES = (0, (4, 4))
STYLE: Any = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LIGHT,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "savefig.dpi": 144,
    "svg.fonttype": "none",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw and save in the style of the house inside the body."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, in inches, that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def inline_svg(figure: Figure | None, name: str) -> Markup:
    """A figure as an SVG element for a page: it scales, and its colours are those of the page.

    Parameters
    ----------
    figure
        None gives nothing.
    name
        What screen readers say; other charts of the page have other names.
    """
    from markupsafe import Markup
    from matplotlib import rc_context

    if figure is None:
        return Markup()
    written = StringIO()
    about = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(written, format="svg", transparent=True, metadata=about)
    found = written.getvalue()
    box = re.search(r'viewBox="([^"]+)"', found)
    assert box is not None
    content = found[found.index(">", box.end()) + 1 :]
    for needless in (
        r"<metadata>.*?</metadata>",
        r"<style[^>]*>.*?</style>",
        r"<clipPath.*?</clipPath>",
        r' clip-path="[^"]*"',
        r'(?<=<g) id="[^"]*"',
        r"<!--.*?-->",
    ):
        content = re.sub(needless, "", content, flags=re.DOTALL)
    content = re.sub(
        "|".join(IN_A_PAGE), lambda colour: f"var({IN_A_PAGE[colour.group()]})", content
    )
    content = re.sub(r">\s+<", "><", content).strip()
    return Markup(f'<svg viewBox="{box.group(1)}" role="img" aria-label="{name}">{content}')


def save_plots(folder: Path, report: EvaluationReport, importance: Mapping[str, float]) -> None:
    """Draw a model's test rows, and how its settings were found, as PNG files.

    Parameters
    ----------
    importance
        Feature to its share.
    """
    labels, probabilities, threshold = report.labels, report.probabilities, report.threshold
    with drawing():
        figures = {
            "feature_importance": feature_importance(importance),
            "roc_curve": roc_curve(labels, probabilities, threshold),
            "pr_curve": pr_curve(labels, probabilities, threshold),
            "calibration": calibration(report.reliability),
            "confusion_matrix": confusion_matrix(labels, probabilities, threshold),
            "shap_summary": contribution_summary(report.explained),
        }
        if (tuned := report.extras.tuned) is not None:
            figures["tuning_history"] = tuning_history(tuned)
            if tuned.importance:
                figures["tuning_importance"] = tuning_importance(tuned)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png")


def feature_importance(importance: Mapping[str, float]) -> Figure:
    """Bars of the features that matter most."""
    ranked = sorted(importance.items(), key=lambda item: -item[1])
    others = ""
    if len(ranked) > MOST_FEATURES:
        rest = 100 * sum(share for _, share in ranked[MOST_FEATURES:])
        others = f"; the other {len(ranked) - MOST_FEATURES}: {rest:.1f} %"
    figure, axes = _bars(dict(ranked[:MOST_FEATURES]), "%.1f")
    axes.set(title="Which features matter", xlabel=f"share of the total gain, %{others}")
    return figure


def roc_curve(labels: Labels, probabilities: Values, threshold: float) -> Figure:
    """True against false positive rate over all thresholds."""
    from sklearn.metrics import roc_auc_score, roc_curve as curve

    false_positive_rate, true_positive_rate, _ = curve(labels, probabilities)
    tp, fp, fn, tn = counts(labels, probabilities, threshold)
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES, label="chance")
    label = f"model, area {roc_auc_score(labels, probabilities):.4f}"
    _curve(axes, false_positive_rate, true_positive_rate, label)
    _mark(axes, fp / (fp + tn), tp / (tp + fn), threshold)
    axes.set(title="ROC curve", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right")
    return figure


def pr_curve(labels: Labels, probabilities: Values, threshold: float) -> Figure:
    """Precision against recall over all thresholds."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels, probabilities)
    tp, fp, fn, _ = counts(labels, probabilities, threshold)
    base_rate = float(labels.mean())
    figure, axes = _square()
    axes.axhline(
        base_rate, color=GREY, linewidth=1, linestyle=DASHES, label=f"chance, {base_rate:.3f}"
    )
    label = f"model, average precision {average_precision_score(labels, probabilities):.4f}"
    _curve(axes, recall, precision, label)
    _mark(axes, tp / (tp + fn), tp / max(tp + fp, 1), threshold)
    axes.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    axes.legend(loc="lower left")
    return figure


def calibration(bins: Sequence[Bin]) -> Figure:
    """Predicted against observed frequency in tenths of the rows, with 95 % intervals."""
    predicted = np.array([each.predicted for each in bins])
    observed = np.array([each.observed.value for each in bins])
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES, label="perfect")
    _intervals(
        axes, predicted, [each.observed for each in bins], label="model, by tenths of the rows"
    )
    error = float(np.average(np.abs(predicted - observed), weights=[each.n for each in bins]))
    axes.set(
        title="Calibration",
        xlabel=f"predicted probability (mean distance to observed: {error:.4f})",
        ylabel="observed share of 1s",
    )
    axes.legend(loc="upper left")
    return figure


def confusion_matrix(labels: Labels, probabilities: Values, threshold: float) -> Figure:
    """How often each label was predicted as which; shares are of each label."""
    from matplotlib.patches import Rectangle

    tp, fp, fn, tn = counts(labels, probabilities, threshold)
    table = np.array([[tn, fp], [fn, tp]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(*SQUARE)
    for (row, column), count in np.ndenumerate(table):
        share = float(shares[row, column])
        corner = column - 0.48, row - 0.48
        axes.add_patch(Rectangle(corner, 0.96, 0.96, color=BLUE, alpha=0.08 + 0.42 * share, lw=0))
        words = f"{count:,}\n{share:.1%}"
        axes.text(column, row, words, ha="center", va="center", color=INK, fontsize=15)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(
        title=f"Decisions at {threshold:.3f}",
        xlabel="predicted",
        ylabel="actual (shares are of each row)",
        xticks=[0, 1],
        yticks=[0, 1],
        xlim=(-0.5, 1.5),
        ylim=(1.5, -0.5),
    )
    return figure


def contribution_summary(explained: Contributions) -> Figure:
    """A dot for each row and feature: how much it adds, coloured by the feature's value."""
    from matplotlib.colors import LinearSegmentedColormap

    names = list(explained.mean_size())[:EXPLAINED_FEATURES]
    colours = LinearSegmentedColormap.from_list("value", [LOW, "#a9a4b4", HIGH])
    random = np.random.default_rng(0)
    figure, axes = new_figure(7.5, 1.4 + 0.36 * len(names))
    drawn = None
    for line, name in enumerate(names):
        place = explained.rows.schema.position(name)
        added = explained.values[:, place]
        height = line + JITTER * random.uniform(-1, 1, len(added))
        shares = value_shares(explained.rows.values[:, place])
        drawn = axes.scatter(
            added, height, c=shares, cmap=colours, vmin=0, vmax=1, s=7, linewidths=0
        )
        drawn.set_rasterized(True)  # thousands of dots as shapes make a page heavy
    axes.axvline(0, color=GREY, linewidth=1)
    _named_lines(axes, names)
    axes.set(title="What features add", xlabel="contribution to the log-odds of 1")
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes, ticks=[0, 1], aspect=40, pad=0.02)
        bar.ax.set_yticklabels(["low", "high"])
        bar.set_label("value of the feature")
        bar.outline.set_visible(False)
    return figure


def waterfall(names: Sequence[str], added: Sequence[float], base: float) -> Figure:
    """How a prediction comes about: from the base, feature by feature, to its log-odds."""
    starts = np.cumsum([base, *added[:-1]])
    figure, axes = new_figure(HALF[0], 0.8 + 0.28 * len(names))
    colours = [HIGH if value > 0 else LOW for value in added]
    bars = axes.barh(range(len(names)), added, left=starts, color=colours, height=0.65)
    axes.bar_label(bars, [f"{value:+.2f}" for value in added], padding=4, color=GREY, fontsize=9)
    _named_lines(axes, names)
    axes.margins(x=0.12, y=0.02)
    axes.set(xlabel="log-odds of 1")
    return figure


def tuning_history(tuned: Tuned) -> Figure:
    """The log loss of every trial, and the best so far."""
    figure, axes = new_figure(*WIDE)
    whole = [t for t in tuned.trials if t.value is not None and not t.was_pruned]
    cut = [t for t in tuned.trials if t.value is not None and t.was_pruned]
    numbers = np.array([t.number for t in whole])
    values = np.array([t.value for t in whole], dtype=np.float64)
    axes.scatter(numbers, values, color=BLUE, s=24, label="finished")
    axes.scatter(
        [t.number for t in cut],
        [t.value or 0 for t in cut],
        facecolors="none",
        edgecolors=GREY,
        s=24,
        label="cut short",
    )
    axes.plot(
        numbers, np.minimum.accumulate(values), color=ORANGE, drawstyle="steps-post", label="best"
    )
    axes.set(title="Tuning", xlabel="trial", ylabel="cross-validated log loss")
    axes.legend(loc="upper right")
    return figure


def tuning_importance(tuned: Tuned) -> Figure:
    """How much each hyper-parameter explains of the differences between trials."""
    figure, axes = _bars(tuned.importance, "%.0f")
    axes.set(title="Which settings matter", xlabel="share of the differences between trials, %")
    return figure


def learning_curve(points: Sequence[tuple[int, Estimate]]) -> Figure:
    """Log loss by the number of training rows, with 95 % intervals."""
    figure, axes = new_figure(*HALF)
    _intervals(axes, np.array([rows for rows, _ in points]), [each for _, each in points])
    axes.set(title="Learning curve", xlabel="training rows", ylabel="log loss")
    axes.set_xlim(left=0)
    return figure


def value_shares(column: np.ndarray) -> np.ndarray:
    """Where each value lies between the 5 % and 95 % ends of its column: 0 to 1; missing is 0.5."""
    known = column[~np.isnan(column)]
    if len(known) == 0:
        return np.full(len(column), 0.5)
    low, high = np.quantile(known, [0.05, 0.95])
    share = (column - low) / max(float(high - low), 1e-9)
    inside: np.ndarray = np.clip(np.nan_to_num(share, nan=0.5), 0, 1)
    return inside


def _square() -> tuple[Figure, Axes]:
    figure, axes = new_figure(*SQUARE)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return figure, axes


def _bars(shares: Mapping[str, float], form: str) -> tuple[Figure, Axes]:
    """Shares by name in percent, largest first."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    figure, axes = new_figure(7.5, 1.6 + 0.26 * len(ranked))
    bars = axes.barh(range(len(ranked)), [100 * s for _, s in ranked], color=BLUE, height=0.7)
    axes.bar_label(bars, fmt=form, padding=4, color=GREY, fontsize=9)
    _named_lines(axes, [name for name, _ in ranked])
    axes.margins(x=0.1, y=0.02)
    return figure, axes


def _named_lines(axes: Axes, names: Sequence[str]) -> None:
    """Name the lines of a chart, from above."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _curve(axes: Axes, xs: np.ndarray, ys: np.ndarray, label: str) -> None:
    """A curve and the area below it; of very many points some hundred."""
    at = np.unique(np.linspace(0, len(xs) - 1, CURVE_POINTS).astype(int))
    axes.plot(xs[at], ys[at], color=BLUE, label=label)
    axes.fill_between(xs[at], ys[at], color=BLUE, alpha=0.07, linewidth=0)


def _intervals(axes: Axes, xs: np.ndarray, found: Sequence[Estimate], label: str = "") -> None:
    """Values with their intervals, joined by a line."""
    values = np.array([each.value for each in found])
    ends = np.array([(each.low, each.high) for each in found]).T
    axes.errorbar(
        xs,
        values,
        yerr=np.abs(ends - values),
        color=BLUE,
        marker="o",
        markersize=5,
        linewidth=1.5,
        elinewidth=1,
        capsize=2,
        label=label or None,
    )


def _mark(axes: Axes, x: float, y: float, threshold: float) -> None:
    """Mark the point at which the model decides."""
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=8,
        color=ORANGE,
        markeredgecolor="white",
        linestyle="none",
        label=f"threshold {threshold:.3f}",
        zorder=3,
    )
