"""The picture of an A/B test: its confidence sequence, label by label, to where it stands."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from configs.files import write_whole
from models.reports.charts import BLUE, GREY, INK, ORANGE, drawing, new_figure
from monitoring.experiments.store import ExperimentDecision

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = (8.0, 4.6)
CHARACTERS = 105
WIDTHS_SHOWN = 5
"""Of the last interval, to either side: the first ones are so wide that nothing else is seen."""


def save_plot(decision: ExperimentDecision, path: Path) -> Path:
    """Draw the evidence of a decision as a PNG file, whole at any moment; return its path."""
    with drawing():
        figure, axes = new_figure(*WIDE)
        figure.suptitle(
            f"{decision.experiment}: {decision.action}", x=0.01, ha="left", weight="bold"
        )
        axes.set_title(fill(decision.reason, CHARACTERS), fontsize=9, weight="normal", color=GREY)
        _draw(axes, decision)
        drawn = BytesIO()
        figure.savefig(drawn, format="png")
    write_whole(path, drawn.getvalue())
    return path


def _draw(axes: Axes, decision: ExperimentDecision) -> None:
    primary, plan = decision.evidence["primary"], decision.plan
    metric = decision.evidence["metric"]
    axes.set_xlabel("units with a matured label")
    axes.set_ylabel(f"{metric}: challenger less champion")
    axes.axhline(0, color=INK, linewidth=1)
    if primary is None or not primary["path"]:
        axes.text(0.5, 0.5, "nothing to show yet", transform=axes.transAxes, ha="center")
        return
    n, mean, lower, upper = np.array(primary["path"]).T
    axes.fill_between(
        n,
        lower,
        upper,
        color=BLUE,
        alpha=0.2,
        linewidth=0,
        label=f"{1 - plan['alpha']:.0%} confidence sequence",
    )
    axes.plot(n, mean, color=BLUE, label="estimate")
    reach = WIDTHS_SHOWN * (upper[-1] - lower[-1])
    axes.set_ylim(min(mean[-1], 0) - reach, max(mean[-1], 0) + reach)
    if plan["objective"] == "non_inferiority":
        axes.axhline(plan["margin"], color=ORANGE, linestyle="--", label="margin")
    axes.annotate(
        "below 0 the challenger is better", (0.99, 0.02), xycoords="axes fraction", ha="right"
    ).set_color(GREY)
    axes.legend(loc="upper right")
