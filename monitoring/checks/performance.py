"""How good the answers were, once it is known what came true: by arm, version and slice. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.monitoring_config import PerformanceConfig
from models.evaluation import intervals
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import row_losses
from models.evaluation.slices import FEWEST_OF_A_LABEL
from monitoring.checks.results import CheckReport, Skipped

if TYPE_CHECKING:
    import polars as pl

CHECK = "performance"
ALL = "all"


@dataclass(frozen=True)
class Coverage:
    """How many predictions have a label, and how long that took.

    Parameters
    ----------
    n, labelled
        Matured predictions, and those of them whose label is known.
    of_ones, of_zeros
        Share with a label among predictions of 1 and of 0: where they differ, labels are chosen
        by what was predicted, and the metrics tell of those that were chosen.
    delay_s
        Median and 90th percentile from prediction to label; of labels 1 and 0 the medians.
    """

    n: int
    labelled: int
    of_ones: float
    of_zeros: float
    delay_s: tuple[float, float]
    delay_of_ones_s: float
    delay_of_zeros_s: float

    @property
    def share(self) -> float:
        """Share of the matured predictions with a label."""
        return self.labelled / self.n if self.n else float("nan")


@dataclass(frozen=True)
class Performance:
    """How good some predictions were.

    Parameters
    ----------
    by, word
        What they have in common: ``all``, ``arm``, ``model_version`` or a category, and its value.
    n, positives
        Predictions with labels, and labels of 1.
    is_small
        Whether its numbers say little.
    metrics
        ``accuracy``, ``f1_score``, ``roc_auc``, ``log_loss``, ``brier`` and ``ece``, by name; NaN
        where nothing can be said, as of the area under the curve with one class.
    """

    by: str
    word: str
    n: int
    positives: int
    is_small: bool
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class PerformanceReport(CheckReport):
    """How good the predictions of a window were.

    Parameters
    ----------
    groups
        All of them first, then by arm, version and slice.
    """

    start: datetime
    end: datetime
    coverage: Coverage
    groups: tuple[Performance, ...]

    @property
    def whole(self) -> Performance:
        """All predictions together."""
        return self.groups[0]

    def of(self, by: str) -> tuple[Performance, ...]:
        """The groups by one thing, such as ``arm``."""
        return tuple(group for group in self.groups if group.by == by)

    @property
    def summary(self) -> str:
        """One line for people."""
        accuracy, auc = self.whole.metrics["accuracy"], self.whole.metrics["roc_auc"]
        return (
            f"Accuracy {accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f}), ROC-AUC "
            f"{auc.value:.4f} over {self.whole.n:,} labelled of {self.coverage.n:,} predictions"
        )

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        times = {"start": self.start.isoformat(), "end": self.end.isoformat()}
        return super().to_json() | times


def join_labels(predictions: pl.DataFrame, labels: pl.DataFrame, within: timedelta) -> pl.DataFrame:
    """Add ``label`` and ``known_at`` to predictions; NULL where nothing is known yet.

    A label of higher authority counts first (a source's before a reported one); of equal authority
    one about the prediction itself counts before one about its user. Of those about a user
    the first at or after the prediction counts, if it is no older than ``within``: an earlier one
    tells of what was already, and is no outcome.

    Parameters
    ----------
    predictions
        With ``prediction_id``, ``user_id`` and ``predicted_at``.
    labels
        With ``prediction_id`` or ``user_id``, ``label``, ``label_time`` and ``known_at``, and
        perhaps ``authority``.
    """
    import polars as pl

    if "authority" not in labels.columns:
        labels = labels.with_columns(authority=pl.lit(0))
    own = labels.filter(pl.col("prediction_id").is_not_null()).select(
        "prediction_id", own_label="label", own_known_at="known_at", own_authority="authority"
    )
    of_users = (
        labels.filter(pl.col("prediction_id").is_null() & pl.col("user_id").is_not_null())
        .select(
            *("user_id", "label_time"),
            user_label="label",
            user_known_at="known_at",
            user_authority="authority",
        )
        .sort("label_time")
    )
    joined = (
        predictions.join(own, on="prediction_id", how="left")
        .sort("predicted_at")
        .join_asof(
            of_users,
            left_on="predicted_at",
            right_on="label_time",
            by="user_id",
            strategy="forward",
            tolerance=within,
            check_sortedness=False,
        )
    )
    first = pl.when(pl.col("user_authority") > pl.col("own_authority"))
    return joined.with_columns(
        label=first.then("user_label").otherwise(pl.coalesce("own_label", "user_label")),
        known_at=first.then("user_known_at").otherwise(
            pl.coalesce("own_known_at", "user_known_at")
        ),
    ).drop(
        *("own_label", "own_known_at", "own_authority", "label_time"),
        *("user_label", "user_known_at", "user_authority"),
    )


def keep_matured(joined: pl.DataFrame, now: datetime, maturity: timedelta) -> pl.DataFrame:
    """The predictions that are so old that their labels may be counted.

    Where 1s are known later than 0s, counting labels as they come makes a model look worse than
    it is, or better: then only predictions count that have had time for either.
    """
    import polars as pl

    return joined.filter(pl.col("predicted_at") <= now - maturity)


def evaluate(
    joined: pl.DataFrame,
    start: datetime,
    end: datetime,
    config: PerformanceConfig,
    slices: Mapping[str, Sequence[str]] | None = None,
) -> PerformanceReport | Skipped:
    """Compare predictions with their labels, as `join_labels` gives them.

    Parameters
    ----------
    start, end
        The window that they are from; labels count when they are matured at its end.
    slices
        Columns with codes of categories, and the words of the codes.
    """
    import polars as pl

    if not len(joined):
        return Skipped(CHECK, f"no predictions in the {config.window_days:g} days before {end:%F}")
    ripe = keep_matured(joined, end, timedelta(hours=config.maturity_hours))
    known = ripe.filter(pl.col("label").is_not_null())
    if not len(known):
        return Skipped(
            CHECK,
            f"no labels yet for {len(ripe):,} matured predictions; report them to POST /feedback",
        )
    groups = [_measure(ALL, ALL, known, config), *_by_column(known, "arm", config)]
    groups += _by_column(known, "model_version", config)
    for column, words in (slices or {}).items():
        groups += _by_code(known, column, words, config)
    return PerformanceReport(start, end, _coverage(ripe, known), tuple(groups))


def _by_column(known: pl.DataFrame, by: str, config: PerformanceConfig) -> Iterator[Performance]:
    for (word,), rows in sorted(known.group_by(by), key=lambda item: str(item[0])):
        yield _measure(by, str(word), rows, config)


def _by_code(
    known: pl.DataFrame, by: str, words: Sequence[str], config: PerformanceConfig
) -> Iterator[Performance]:
    import polars as pl

    codes = known[by].cast(pl.Int64)
    for code in codes.unique().sort().to_list():
        yield _measure(by, words[code], known.filter(codes == code), config)


def _measure(by: str, word: str, rows: pl.DataFrame, config: PerformanceConfig) -> Performance:
    labels = rows["label"].to_numpy().astype(np.int8)
    said = rows["probability"].to_numpy()
    decided, ones, n = rows["decision"].to_numpy() == 1, labels == 1, len(labels)
    tp, fp = int((decided & ones).sum()), int((decided & ~ones).sum())
    fn, tn = int((~decided & ones).sum()), int((~decided & ~ones).sum())
    metrics = {
        "accuracy": intervals.share(tp + tn, n),
        "f1_score": intervals.f1_score(tp, fp, fn, tn),
        "roc_auc": intervals.roc_auc(labels, said),
        "log_loss": intervals.mean(row_losses(labels, said)),
        "brier": intervals.mean(np.square(said - labels)),
        "ece": intervals.calibration_error(labels, said),
    }
    few = min(tp + fn, n - tp - fn) < FEWEST_OF_A_LABEL
    is_small = n < config.smallest_slice or few
    return Performance(by, word, n, tp + fn, is_small, metrics)


def _coverage(ripe: pl.DataFrame, known: pl.DataFrame) -> Coverage:
    has_label = ripe["label"].is_not_null().to_numpy()
    said_one = ripe["decision"].to_numpy() == 1
    delay = (known["known_at"] - known["predicted_at"]).dt.total_microseconds().to_numpy() / 1e6
    ones = known["label"].to_numpy() == 1
    return Coverage(
        n=len(ripe),
        labelled=len(known),
        of_ones=_mean(has_label[said_one]),
        of_zeros=_mean(has_label[~said_one]),
        delay_s=(_quantile(delay, 0.5), _quantile(delay, 0.9)),
        delay_of_ones_s=_quantile(delay[ones], 0.5),
        delay_of_zeros_s=_quantile(delay[~ones], 0.5),
    )


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _quantile(values: np.ndarray[Any, Any], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")
