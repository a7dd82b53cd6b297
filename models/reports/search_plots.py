"""Pictures of what a model learned and how its settings were found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.evaluation.explanations import Contributions
from models.reports.plots import BLUE, GREY, LIGHT, ORANGE, STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from models.training.tuning import Tuned

SHOWN_FEATURES = 15
JITTER = 0.32


def save_contributions(folder: Path, explained: Contributions) -> Path:
    """Draw the contributions of every explained row as ``shap_summary.png``."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        contribution_summary(explained).savefig(folder / "shap_summary.png")
    return folder / "shap_summary.png"


def save_tuning(folder: Path, tuned: Tuned) -> list[Path]:
    """Draw the trials and the importance of the hyper-parameters as PNG files."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        figures = {"tuning_history.png": tuning_history(tuned)}
        if tuned.importance:
            figures["tuning_importance.png"] = tuning_importance(tuned)
        for name, figure in figures.items():
            figure.savefig(folder / name)
    return [folder / name for name in figures]


def contribution_summary(explained: Contributions) -> Figure:
    """A dot for each row and feature: how much it adds, coloured by the feature's value."""
    names = list(explained.mean_size())[:SHOWN_FEATURES]
    random = np.random.default_rng(0)
    figure, axes = new_figure(7.5, 1.4 + 0.36 * len(names))
    drawn = None
    for line, name in enumerate(names):
        place = explained.rows.schema.position(name)
        added = explained.values[:, place]
        height = line + JITTER * random.uniform(-1, 1, len(added))
        colour = value_shares(explained.rows.values[:, place])
        drawn = axes.scatter(added, height, c=colour, cmap="coolwarm", s=7, linewidths=0)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set(title="What features add", xlabel="contribution to the log-odds of 1")
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes, ticks=[0, 1], aspect=40, pad=0.02)
        bar.ax.set_yticklabels(["low", "high"])
        bar.set_label("value of the feature")
        bar.outline.set_visible(False)
    return figure


def tuning_history(tuned: Tuned) -> Figure:
    """The log loss of every trial, and the best so far."""
    figure, axes = new_figure(7.5, 4.2)
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
    ranked = sorted(tuned.importance.items(), key=lambda item: -item[1])
    figure, axes = new_figure(7.5, 1.4 + 0.3 * len(ranked))
    shares = [100 * share for _, share in ranked]
    bars = axes.barh([name for name, _ in ranked], shares, color=BLUE, height=0.7)
    axes.bar_label(bars, fmt="%.0f", padding=4, color=GREY, fontsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_facecolor("white")
    axes.xaxis.grid(visible=True, color=LIGHT)
    axes.set(title="Which settings matter", xlabel="share of the differences between trials, %")
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
