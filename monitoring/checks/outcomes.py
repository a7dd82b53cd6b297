"""Predictions with what came true: late labels joined by prediction, or by user and time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def join_labels(predictions: pl.DataFrame, labels: pl.DataFrame, within: timedelta) -> pl.DataFrame:
    """Add ``label`` and ``known_at`` to predictions; NULL where nothing is known yet.

    A label about the prediction itself counts before one about its user. Of those about a user
    the first at or after the prediction counts, if it is no older than ``within``: an earlier one
    tells of what was already, and is no outcome.

    Parameters
    ----------
    predictions
        With ``prediction_id``, ``user_id`` and ``predicted_at``.
    labels
        With ``prediction_id`` or ``user_id``, ``label``, ``label_time`` and ``known_at``.
    """
    import polars as pl

    own = labels.filter(pl.col("prediction_id").is_not_null()).select(
        "prediction_id", own_label="label", own_known_at="known_at"
    )
    of_users = (
        labels.filter(pl.col("prediction_id").is_null() & pl.col("user_id").is_not_null())
        .select("user_id", "label_time", user_label="label", user_known_at="known_at")
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
    return joined.with_columns(
        label=pl.coalesce("own_label", "user_label"),
        known_at=pl.coalesce("own_known_at", "user_known_at"),
    ).drop("own_label", "own_known_at", "user_label", "user_known_at", "label_time")


def matured(joined: pl.DataFrame, now: datetime, maturity: timedelta) -> pl.DataFrame:
    """The predictions that are so old that their labels may be counted.

    Where 1s are known later than 0s, counting labels as they come makes a model look worse than
    it is, or better: then only predictions count that have had time for either.
    """
    import polars as pl

    return joined.filter(pl.col("predicted_at") <= now - maturity)
