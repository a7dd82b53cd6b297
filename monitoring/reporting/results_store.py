"""What every pass of monitoring found, in PostgreSQL: reports as JSON, and values of metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from feature_store.offline.postgres import transaction
from monitoring.alerting.states import Sample

# Passes of the last day are all kept, of those before one an hour.
_THIN_OUT = """
WITH gone AS (
    SELECT pass_id FROM monitoring_passes AS p WHERE model_name = %(model_name)s AND (
        as_of < %(as_of)s - %(keep)s OR (
            as_of < %(as_of)s - interval '1 day' AND EXISTS (
                SELECT FROM monitoring_passes AS q WHERE q.model_name = p.model_name
                    AND q.as_of >= date_trunc('hour', p.as_of) AND q.as_of < p.as_of
            )
        )
    )
), emptied AS (
    DELETE FROM monitoring_values USING gone WHERE monitoring_values.pass_id = gone.pass_id
)
DELETE FROM monitoring_passes USING gone WHERE monitoring_passes.pass_id = gone.pass_id
"""

Connection = psycopg.Connection[Any]
PROBLEM = "Results of monitoring cannot be kept"


@dataclass(frozen=True)
class Point:
    """A value of a metric at a time."""

    as_of: datetime
    metric: str
    labels: Mapping[str, str]
    value: float


@dataclass(eq=False)
class ResultsStore:
    """The tables ``monitoring_passes`` and ``monitoring_values`` of one registered model.

    Parameters
    ----------
    connect
        Opens a connection to PostgreSQL; each call uses one of its own.
    keep
        Passes older than that are removed; of those older than a day one an hour is kept.
    """

    connect: Callable[[], Connection]
    model_name: str
    keep: timedelta = timedelta(days=90)

    def add(
        self,
        as_of: datetime,
        model_version: str | None,
        seconds: float,
        results: Mapping[str, Any],
        samples: Sequence[Sample],
    ) -> int:
        """Keep what a pass found; all of it or nothing. Give its number."""
        with transaction(self.connect, PROBLEM) as connection:
            [row] = connection.execute(
                "INSERT INTO monitoring_passes (model_name, as_of, model_version, seconds, "
                "results) VALUES (%s, %s, %s, %s, %s) RETURNING pass_id",
                (self.model_name, as_of, model_version, seconds, Jsonb(without_nan(results))),
            ).fetchall()
            connection.cursor().executemany(
                "INSERT INTO monitoring_values VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        *(row["pass_id"], self.model_name, as_of, sample.metric),
                        *(Jsonb(dict(sample.labels)), sample.value, sample.detail),
                    )
                    for sample in samples
                ],
            )
            which = {"model_name": self.model_name, "as_of": as_of, "keep": self.keep}
            connection.execute(_THIN_OUT, which)
            return int(row["pass_id"])

    def values(self, metric: str, labels: Mapping[str, str], since: datetime) -> list[float]:
        """Values of one metric with exactly these labels since a time, oldest first."""
        with transaction(self.connect, PROBLEM) as connection:
            rows = connection.execute(
                "SELECT value FROM monitoring_values WHERE model_name = %s AND metric = %s "
                "AND as_of >= %s AND labels = %s ORDER BY as_of, pass_id",
                (self.model_name, metric, since, Jsonb(dict(labels))),
            ).fetchall()
        return [float(row["value"]) for row in rows]

    def series(self, metrics: Sequence[str], since: datetime) -> list[Point]:
        """All values of some metrics since a time, oldest first."""
        with transaction(self.connect, PROBLEM) as connection:
            rows = connection.execute(
                "SELECT as_of, metric, labels, value FROM monitoring_values WHERE model_name = %s "
                "AND metric = ANY (%s) AND as_of >= %s ORDER BY as_of, pass_id",
                (self.model_name, list(metrics), since),
            ).fetchall()
        return [Point(**row) for row in rows]


def without_nan(value: Any) -> Any:
    """JSON values of a report: what is no number is null, since JSON has neither NaN nor infinity.

    Examples
    --------
    >>> without_nan({"a": float("nan"), "b": (1, float("inf"))})
    {'a': None, 'b': [1, None]}
    """
    if isinstance(value, Mapping):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
