"""Reads the predictions of an A/B test with their labels out of PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from psycopg import sql

from feature_store.definitions.schema import FIRST_KNOWN, FeatureSchema
from feature_store.offline.postgres import Postgres
from models.deployment.record import Deployment
from monitoring.experiments.exposures import Exposures
from monitoring.log.record import DEGRADED

CLOCKS_DIFFER = timedelta(minutes=5)
"""A host whose clock is behind may have answered so much before the test was recorded."""

# A unit without a name of its own is a prediction; one that was overruled had no chance.
QUERY = sql.SQL("""
SELECT p.unit, p.generation, p.flags && {degraded} AS is_degraded,
    (extract(epoch FROM p.predicted_at) * 1000000)::bigint AS at_us,
    p.arm = 'challenger' OR 'challenger_failed' = ANY (p.flags) AS is_challenger,
    'over_budget' = ANY (p.flags) AS is_over_budget,
    'challenger_failed' = ANY (p.flags) OR jsonb_path_exists(p.scored,
        '$[*] ? (@.arm == "challenger" && @.probability == null)') AS is_failed,
    {outputs},
    CASE WHEN theirs.authority > mine.authority THEN theirs.label
        ELSE coalesce(mine.label, theirs.label) END AS label
    {slices}
FROM predictions p
LEFT JOIN LATERAL (
    SELECT label, authority FROM labels WHERE labels.prediction_id = p.prediction_id
        AND created_timestamp <= p.predicted_at + {horizon}
    ORDER BY authority DESC, created_timestamp DESC LIMIT 1
) mine ON true
LEFT JOIN LATERAL (
    SELECT label, authority FROM labels
    WHERE labels.prediction_id IS NULL AND labels.user_id = p.user_id
        AND label_time >= p.predicted_at AND label_time <= p.predicted_at + {horizon}
        AND created_timestamp <= p.predicted_at + {horizon}
    ORDER BY label_time, authority DESC, created_timestamp DESC LIMIT 1
) theirs ON mine.label IS NULL OR mine.authority = 0
WHERE p.experiment = {experiment} AND p.predicted_at >= {start}
    AND p.propensity < 1 AND p.unit <> p.prediction_id::text
ORDER BY p.predicted_at, p.prediction_id
""")
OUTPUT = """
(jsonb_path_query_first(p.scored, '$[*] ? (@.arm == "{arm}")') ->> '{value}')::float8
AS {arm}_{value}"""
OUTPUTS = [
    OUTPUT.format(arm=arm, value=value)
    for value in ("probability", "threshold")
    for arm in ("champion", "challenger")
]


@dataclass(frozen=True)
class Phases:
    """The shares that the challenger of a test has had, one after the other.

    Parameters
    ----------
    shares
        Each differs from the one before.
    of_generation
        Deployment to the place of its share.
    started_at
        When the test began.
    last_at
        When the present share began.
    """

    shares: tuple[float, ...]
    of_generation: Mapping[int, int]
    started_at: datetime
    last_at: datetime

    @classmethod
    def of(cls, history: Sequence[Deployment], experiment: str) -> Phases:
        """Read them off the record of deployments, oldest first."""
        shares: list[float] = []
        of_generation: dict[int, int] = {}
        mine = [each for each in history if each.experiment == experiment]
        last_at = mine[0].created_at
        for record in mine:
            assert record.challenger is not None
            if not shares or shares[-1] != record.challenger.share:
                shares.append(record.challenger.share)
                last_at = record.created_at
            of_generation[record.generation] = len(shares) - 1
        return cls(tuple(shares), of_generation, mine[0].created_at, last_at)


class ExposureReader:
    """Reads exposures.

    Parameters
    ----------
    database
        Where predictions and labels are.
    schema
        The features as they are defined now: slices are read of predictions that follow it.
    """

    def __init__(self, database: Postgres, schema: FeatureSchema) -> None:
        self.database = database
        self.schema = schema

    def read(
        self, experiment: str, phases: Phases, horizon_s: float, slices: Sequence[str] = ()
    ) -> Exposures:
        """Read the exposures of a test, each with the label that was known at the horizon.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL does not answer.
        """
        known = [name for name in slices if name in self.schema.positions]
        query = QUERY.format(
            degraded=sql.Literal(DEGRADED.names),
            outputs=sql.SQL(",".join(OUTPUTS)),
            slices=sql.SQL("").join(map(self._code, known)),
            horizon=sql.Literal(timedelta(seconds=horizon_s)),
            experiment=sql.Literal(experiment),
            start=sql.Literal(phases.started_at - CLOCKS_DIFFER),
        )
        rows = self.database.query(query.as_string())
        return _exposures(
            rows.filter(pl.col("generation").is_in(list(phases.of_generation))), phases, known
        )

    def words(self, slices: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The vocabulary of each category that is looked at apart."""
        known = [name for name in slices if name in self.schema.positions]
        return {name: self.schema.features[self.schema.position(name)].categories for name in known}

    def _code(self, name: str) -> sql.Composable:
        return sql.SQL(
            ", CASE WHEN p.schema_fingerprint = {} THEN p.features[{}]::int ELSE 0 END AS {}"
        ).format(
            sql.Literal(self.schema.fingerprint),
            sql.Literal(self.schema.position(name) + 1),
            sql.Identifier(f"slice_{name}"),
        )


def _exposures(rows: pl.DataFrame, phases: Phases, slices: Sequence[str]) -> Exposures:
    def pair(value: str) -> pl.DataFrame:
        return rows.select(f"champion_{value}", f"challenger_{value}").cast(pl.Float64)

    places = rows["generation"].to_numpy()
    phase_of = np.zeros(max(phases.of_generation, default=0) + 1, dtype=np.int64)
    phase_of[list(phases.of_generation)] = list(phases.of_generation.values())
    return Exposures(
        unit=rows["unit"].cast(pl.Categorical).to_physical().cast(pl.Int64).to_numpy(),
        at_us=rows["at_us"].cast(pl.Int64).to_numpy(),
        phase=phase_of[places],
        is_challenger=rows["is_challenger"].to_numpy().astype(bool),
        probability=pair("probability").fill_null(np.nan).to_numpy(),
        threshold=pair("threshold").fill_null(np.nan).to_numpy(),
        label=rows["label"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
        is_over_budget=rows["is_over_budget"].to_numpy().astype(bool),
        is_failed=rows["is_failed"].to_numpy().astype(bool),
        is_degraded=rows["is_degraded"].to_numpy().astype(bool),
        slices={
            name: rows[f"slice_{name}"].cast(pl.Int64).to_numpy() - FIRST_KNOWN for name in slices
        },
    )
