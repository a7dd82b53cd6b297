"""Reads the prediction log and the labels set-wise: whole columns through Arrow, never a row.

Every range is half-open, and every reader takes the time until which it looks: what is known
later is not seen, so that a past pass can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.postgres import Postgres

if TYPE_CHECKING:
    import polars as pl

SCALARS = (
    "prediction_id::text AS prediction_id, predicted_at, user_id, unit, arm, model_version, "
    "probability, decision, experiment, propensity, generation, flags, feature_event_time, "
    "schema_fingerprint"
)
REQUEST_ATTRIBUTES = "'request_attributes' = ANY (flags)"


@dataclass(frozen=True)
class LogWindow:
    """A half-open range of times of prediction, and the version that answered (None: any)."""

    start: datetime
    end: datetime
    model_version: str | None = None
    stored_only: bool = False

    @property
    def condition(self) -> str:
        """SQL condition on rows of ``predictions``."""
        parts = [
            f"predicted_at >= '{self.start.isoformat()}'",
            f"predicted_at < '{self.end.isoformat()}'",
        ]
        if self.model_version is not None:
            parts.append(f"model_version = {_quote(self.model_version)}")
        if self.stored_only:
            parts.append(f"NOT {REQUEST_ATTRIBUTES}")
        return " AND ".join(parts)


@dataclass(frozen=True)
class Vectors:
    """Logged vectors of one schema.

    Parameters
    ----------
    values
        float32 ``(n, p)``, exactly as they were scored.
    probabilities
        float64 ``(n,)``.
    frame
        Whatever else was asked for, a row each.
    """

    values: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    frame: pl.DataFrame

    def __len__(self) -> int:
        return len(self.values)


class PredictionReader:
    """Reads ``predictions`` and ``labels``.

    Parameters
    ----------
    postgres
        Opens connections to the database.
    """

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def predictions(
        self, window: LogWindow, features: Sequence[tuple[int, str]] = ()
    ) -> pl.DataFrame:
        """Everything about predictions but their vectors, oldest first.

        Parameters
        ----------
        features
            Places in the vector (from 0) and the names under which these are read too.
        """
        taken = "".join(f", features[{place + 1}] AS {name}" for place, name in features)
        query = (
            f"SELECT {SCALARS}{taken} FROM predictions WHERE {window.condition} "
            "ORDER BY predicted_at, predictions.prediction_id"
        )
        return _utc(self.postgres.query(query))

    def vectors(self, window: LogWindow, fingerprint: str, columns: str = "") -> Iterator[Vectors]:
        """Vectors that follow a schema, block by block: memory is that of a block."""
        more = f", {columns}" if columns else ""
        query = (
            f"SELECT features, probability{more} FROM predictions WHERE {window.condition} "
            f"AND schema_fingerprint = {_quote(fingerprint)}"
        )
        for block in self.postgres.stream(query):
            if len(block):
                yield _vectors(block)

    def newest_vectors(
        self, window: LogWindow, fingerprint: str, limit: int, columns: str
    ) -> Vectors | None:
        """The newest vectors of a schema, at most ``limit``; None where there are none."""
        found = self.postgres.query(
            f"SELECT features, probability, {columns} FROM predictions WHERE {window.condition} "
            f"AND schema_fingerprint = {_quote(fingerprint)} "
            f"ORDER BY predicted_at DESC LIMIT {limit}"
        )
        return _vectors(found) if len(found) else None

    def counts(self, window: LogWindow) -> pl.DataFrame:
        """How many predictions there are, by whether attributes came with the request."""
        return self.postgres.query(
            f"SELECT {REQUEST_ATTRIBUTES} AS by_request, count(*) AS n FROM predictions "
            f"WHERE {window.condition} GROUP BY 1"
        )

    def labels(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Labels of times from ``start`` on that were known before ``end``; the newest counts.

        Columns ``prediction_id`` or ``user_id``, ``label``, ``label_time``, ``known_at`` and
        ``authority``.
        """
        known = "coalesce(received_at, created_timestamp)"
        query = (
            "SELECT DISTINCT ON (prediction_id, user_id, about) prediction_id::text AS "
            f"prediction_id, user_id, label, label_time, {known} AS known_at, authority FROM "
            "(SELECT *, CASE WHEN prediction_id IS NULL THEN label_time END AS about FROM labels) "
            f"AS labels WHERE label_time >= '{start.isoformat()}' "
            f"AND {known} < '{end.isoformat()}' "
            "ORDER BY prediction_id, user_id, about, authority DESC, created_timestamp DESC"
        )
        return _utc(self.postgres.query(query))


def _vectors(block: pl.DataFrame) -> Vectors:
    import polars as pl

    flat = block["features"].explode().cast(pl.Float32).to_numpy()
    values = np.ascontiguousarray(flat.reshape(len(block), -1))
    return Vectors(
        values, block["probability"].to_numpy(), _utc(block.drop("features", "probability"))
    )


def _utc(frame: pl.DataFrame) -> pl.DataFrame:
    """Times in UTC and to the microsecond, whatever the session's time zone."""
    import polars as pl

    times = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    return frame.with_columns(
        pl.col(name).dt.convert_time_zone("UTC").dt.cast_time_unit("us") for name in times
    )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
