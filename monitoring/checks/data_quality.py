"""Whether data hold what their contracts say, and whether what fills the stores is up to date.

`scan` reads the vectors of a window once, for drift and for the contracts alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from configs.monitoring_config import ContractConfig, QualityConfig
from feature_store.definitions.schema import FeatureSchema
from feature_store.offline.postgres import Postgres
from models.artifact.profile import Histogram, Profile, ReferenceProfile
from monitoring.checks.results import CheckReport
from monitoring.log.reader import LogWindow, PredictionReader

REST = "*"
HOUR_S = 3600.0
NEVER_H = 1e6
"""The age of what was never filled: a century."""


@dataclass(frozen=True)
class Clause:
    """One demand of a contract, and what was found.

    Parameters
    ----------
    name
        What is demanded: ``volume``, ``missing``, ``unseen``, ``range``, ``duplicates``,
        ``freshness``, ``events``, ``pipeline_lag``, ``stream_backlog`` and so on.
    subject
        Of what: a feature, a view, or ``predictions``.
    value, limit
        What was found, and what is allowed; shares, hours, seconds or counts.
    """

    name: str
    subject: str
    value: float
    limit: float
    holds: bool

    @property
    def summary(self) -> str:
        """One line for people."""
        says = "is" if self.holds else "breaks the contract:"
        return f"{self.name} of {self.subject} {says} {self.value:.4g} (limit {self.limit:.4g})"


@dataclass(frozen=True)
class QualityReport(CheckReport):
    """All clauses, those that are broken first."""

    clauses: tuple[Clause, ...]

    @property
    def broken(self) -> tuple[Clause, ...]:
        """The clauses that do not hold."""
        return tuple(clause for clause in self.clauses if not clause.holds)

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.broken:
            return f"All {len(self.clauses)} clauses of the contracts hold"
        shown = "; ".join(clause.summary for clause in self.broken[:4])
        return f"{len(self.broken)} of {len(self.clauses)} clauses are broken: {shown}"


@dataclass(frozen=True)
class Lags:
    """How far what fills the stores is behind; None where it is not known.

    Parameters
    ----------
    stream_backlog, stream_delay_ms
        Events that wait, and the longest delay of a consumer.
    shipping_s
        Age of the oldest receipts that have not reached PostgreSQL.
    """

    stream_backlog: int | None = None
    stream_delay_ms: float | None = None
    shipping_s: float | None = None


@dataclass(frozen=True)
class WindowScan:
    """What the vectors of a window look like.

    Parameters
    ----------
    features, scores
        Counted into the bins of the reference.
    out_of_range
        int64 ``(p,)``: values outside the range that a feature is declared with.
    """

    features: Profile
    scores: Histogram
    out_of_range: NDArray[np.int64]


def scan(
    reader: PredictionReader, window: LogWindow, schema: FeatureSchema, reference: ReferenceProfile
) -> WindowScan:
    """Count the vectors of a window, block by block; none is kept."""
    none = np.empty((0, len(schema)), dtype=np.float32)
    features, scores = reference.features.counted(none), reference.scores.counted(none[:, 0])
    outside = np.zeros(len(schema), dtype=np.int64)
    low, high = _limits(schema)
    for block in reader.vectors(window, schema.fingerprint):
        features = features.merged(reference.features.counted(block.values))
        scores = scores.merged(reference.scores.counted(block.probabilities.astype(np.float32)))
        outside += ((block.values < low) | (block.values > high)).sum(axis=0)
    return WindowScan(features, scores, outside)


def check_contracts(
    config: QualityConfig,
    scanned: WindowScan | None,
    duplicates: float | None,
    ages: Mapping[str, float],
    lags: Lags,
) -> QualityReport:
    """Check every clause that is asked for.

    Parameters
    ----------
    duplicates
        Share of predictions that repeat another.
    ages
        ``freshness VIEW``, ``events VIEW`` and ``pipeline_lag`` to hours, as `ages_of` gives them.
    """
    clauses = [
        *_of_predictions(config.predictions, scanned, duplicates),
        *_of_stores(config, ages),
        *_of_lags(config, lags),
    ]
    return QualityReport(tuple(sorted(clauses, key=lambda clause: clause.holds)))


def duplicate_share(reader: PredictionReader, window: LogWindow) -> float | None:
    """Share of predictions that say what another of the same user did within a second before."""
    query = (
        "SELECT avg((gap <= interval '1 second')::integer)::float8 AS share FROM ("
        "SELECT coalesce(predicted_at - lag(predicted_at) OVER (PARTITION BY unit, probability, "
        "model_version, features ORDER BY predicted_at), interval '1 day') AS gap "
        f"FROM predictions WHERE {window.condition}) AS gaps"
    )
    found = reader.postgres.query(query)["share"][0]
    return None if found is None else float(found)


def ages_of(postgres: Postgres, config: QualityConfig, now: datetime) -> dict[str, float]:
    """Hours since each view's newest row was learned, its newest event, and a watermark moved."""
    ages: dict[str, float] = {}
    views = {*config.max_age_hours, *config.max_event_age_hours}
    for view in sorted(views):
        ages |= {f"{name} {view}": age for name, age in _view_ages(postgres, view, now)}
    if config.max_pipeline_lag_hours is not None:
        age = _age_h(postgres, "SELECT max(advanced_at) AS newest FROM watermarks", now)
        ages |= {} if age is None else {"pipeline_lag": age}
    return ages


def _of_predictions(
    contract: ContractConfig, scanned: WindowScan | None, duplicates: float | None
) -> Iterator[Clause]:
    n = scanned.features.n if scanned else 0
    if contract.min_rows is not None:
        yield Clause("volume", "predictions", n, contract.min_rows, n >= contract.min_rows)
    if contract.max_rows is not None:
        yield _at_most("volume", "predictions", n, contract.max_rows)
    if scanned is None or not n:
        return
    for place, column in enumerate(scanned.features.columns):
        for name, count, limits in (
            ("missing", column.missing, contract.max_missing_share),
            ("unseen", column.unseen, contract.max_unseen_share),
        ):
            limit = limits.get(column.name, limits.get(REST))
            if limit is not None and (name == "missing" or column.is_category):
                yield _at_most(name, column.name, count / n, limit)
        if contract.max_out_of_range_share is not None and not column.is_category:
            share = float(scanned.out_of_range[place]) / n
            yield _at_most("range", column.name, share, contract.max_out_of_range_share)
    if contract.max_duplicate_share is not None and duplicates is not None:
        yield _at_most("duplicates", "predictions", duplicates, contract.max_duplicate_share)


def _of_stores(config: QualityConfig, ages: Mapping[str, float]) -> Iterator[Clause]:
    limits = {f"freshness {view}": limit for view, limit in config.max_age_hours.items()}
    limits |= {f"events {view}": limit for view, limit in config.max_event_age_hours.items()}
    if config.max_pipeline_lag_hours is not None:
        limits["pipeline_lag"] = config.max_pipeline_lag_hours
    for key, limit in limits.items():
        name, _, view = key.partition(" ")
        yield _at_most(name, view or "watermarks", ages.get(key, NEVER_H), limit)


def _of_lags(config: QualityConfig, lags: Lags) -> Iterator[Clause]:
    asked = (
        ("stream_backlog", "events", lags.stream_backlog, config.max_stream_backlog),
        ("stream_delay_ms", "events", lags.stream_delay_ms, config.max_stream_delay_ms),
        ("shipping_lag_s", "receipts", lags.shipping_s, config.max_shipping_lag_s),
    )
    for name, subject, value, limit in asked:
        if value is not None and limit is not None:
            yield _at_most(name, subject, value, limit)


def _at_most(name: str, subject: str, value: float, limit: float) -> Clause:
    return Clause(name, subject, value, limit, value <= limit)


def _view_ages(postgres: Postgres, view: str, now: datetime) -> Iterator[tuple[str, float]]:
    table = postgres.query(
        "SELECT table_name FROM feature_views WHERE switched_at IS NOT NULL AND view = "
        f"'{view}' ORDER BY switched_at DESC LIMIT 1"
    )
    if not len(table):
        return
    for name, column in (("freshness", "created_timestamp"), ("events", "event_timestamp")):
        query = f"SELECT max({column}) AS newest FROM {table['table_name'][0]}"
        age = _age_h(postgres, query, now)
        if age is not None:
            yield name, age


def _age_h(postgres: Postgres, query: str, now: datetime) -> float | None:
    newest = postgres.query(query)["newest"][0]
    return None if newest is None else (now - newest).total_seconds() / HOUR_S


def _limits(schema: FeatureSchema) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and largest valid value of each feature; categories have none."""
    free = (-np.inf, np.inf)
    limits = [
        free if feature.valid_range is None or feature.kind == "category" else feature.valid_range
        for feature in schema.features
    ]
    low, high = np.array(limits, dtype=np.float32).T
    return low, high
