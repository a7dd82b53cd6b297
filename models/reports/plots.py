"""Pictures of a model's quality, one PNG each, for people who decide about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.base import Labels, Values
from models.evaluation.calibration import reliability
from models.evaluation.metrics import counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, LIGHT, BLUE, ORANGE = "#22303c", "#7b8794", "#e4e7eb", "#2563a8", "#d9742b"
SQUARE = (5.6, 5.4)
MOST_FEATURES = 20
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
}


def save_plots(
    folder: Path,
    labels: Labels,
    probabilities: Values,
    threshold: float,
    importance: Mapping[str, float],
) -> list[Path]:
    """Draw a model's test rows as PNG files and return their paths.

    Parameters
    ----------
    labels, probabilities
        Of the test rows, ``(n,)``.
    importance
        Feature to its share.
    """
    from matplotlib import rc_context

    with rc_context(STYLE):
        figures = {
            "feature_importance.png": feature_importance(importance),
            "roc_curve.png": roc_curve(labels, probabilities, threshold),
            "pr_curve.png": pr_curve(labels, probabilities, threshold),
            "calibration.png": calibration(labels, probabilities),
            "confusion_matrix.png": confusion_matrix(labels, probabilities, threshold),
        }
        for name, figure in figures.items():
            figure.savefig(folder / name)
    return [folder / name for name in figures]


def feature_importance(importance: Mapping[str, float]) -> Figure:
    """Bars of the features that matter most."""
    ranked = sorted(importance.items(), key=lambda item: -item[1])
    shown = ranked[:MOST_FEATURES]
    names, shares = [name for name, _ in shown], np.array([100 * share for _, share in shown])
    rest = 100 * sum(share for _, share in ranked[MOST_FEATURES:])
    figure, axes = new_figure(7.5, 1.6 + 0.26 * len(shown))
    bars = axes.barh(names, shares, color=BLUE, height=0.7)
    axes.bar_label(bars, fmt="%.1f", padding=4, color=GREY, fontsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.1, y=0.02)
    others = (
        f"; the other {len(ranked) - len(shown)}: {rest:.1f} %" if len(ranked) > len(shown) else ""
    )
    axes.set(title="Which features matter", xlabel=f"share of the total gain, %{others}")
    return figure


def roc_curve(labels: Labels, probabilities: Values, threshold: float) -> Figure:
    """True against false positive rate over all thresholds."""
    from sklearn.metrics import roc_auc_score, roc_curve as curve

    false_positive_rate, true_positive_rate, _ = curve(labels, probabilities)
    tp, fp, fn, tn = counts(labels, probabilities, threshold)
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 4)), label="chance")
    area = roc_auc_score(labels, probabilities)
    axes.plot(false_positive_rate, true_positive_rate, color=BLUE, label=f"model, area {area:.4f}")
    axes.fill_between(false_positive_rate, true_positive_rate, color=BLUE, alpha=0.07, linewidth=0)
    _mark(axes, fp / (fp + tn), tp / (tp + fn), threshold)
    axes.set(title="ROC curve", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right")
    return figure


def pr_curve(labels: Labels, probabilities: Values, threshold: float) -> Figure:
    """Precision against recall over all thresholds."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels, probabilities)
    tp, fp, fn, _ = counts(labels, probabilities, threshold)
    area, base_rate = average_precision_score(labels, probabilities), float(labels.mean())
    figure, axes = _square()
    axes.axhline(
        base_rate, color=GREY, linewidth=1, linestyle=(0, (4, 4)), label=f"chance, {base_rate:.3f}"
    )
    axes.plot(recall, precision, color=BLUE, label=f"model, average precision {area:.4f}")
    axes.fill_between(recall, precision, color=BLUE, alpha=0.07, linewidth=0)
    _mark(axes, tp / (tp + fn), tp / max(tp + fp, 1), threshold)
    axes.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    axes.legend(loc="lower left")
    return figure


def calibration(labels: Labels, probabilities: Values) -> Figure:
    """Predicted against observed frequency in tenths of the rows, with 95 % intervals."""
    bins = reliability(labels, probabilities)
    predicted = np.array([each.predicted for each in bins])
    observed = np.array([each.observed.value for each in bins])
    spread = np.array([(each.observed.low, each.observed.high) for each in bins]).T
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 4)), label="perfect")
    axes.errorbar(
        predicted,
        observed,
        yerr=np.abs(spread - observed),
        color=BLUE,
        marker="o",
        markersize=5,
        linewidth=1.5,
        elinewidth=1,
        capsize=2,
        label="model, by tenths of the rows",
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
    """How often each label was predicted as which."""
    tp, fp, fn, tn = counts(labels, probabilities, threshold)
    table = np.array([[tn, fp], [fn, tp]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(*SQUARE)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25)
    for (row, column), count in np.ndenumerate(table):
        dark = shares[row, column] > 0.6
        axes.text(
            column,
            row,
            f"{count:,}\n{shares[row, column]:.1%}",
            ha="center",
            va="center",
            color="white" if dark else INK,
            fontsize=15,
        )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(
        title=f"Decisions at {threshold:.3f}",
        xlabel="predicted",
        ylabel="actual (shares are of each row)",
        xticks=[0, 1],
        yticks=[0, 1],
    )
    return figure


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, in inches, that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _square() -> tuple[Figure, Axes]:
    figure, axes = new_figure(*SQUARE)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return figure, axes


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
