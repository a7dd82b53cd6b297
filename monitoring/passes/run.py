"""One pass of monitoring: every check on the windows that end now, each by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from configs.errors import FTIError
from configs.monitoring_config import MonitoringConfig
from feature_store.definitions.schema import FIRST_KNOWN
from feature_store.offline.postgres import Postgres
from models.artifact.profile import ReferenceProfile
from models.evaluation.slices import MISSING_WORD
from monitoring import feature_drift, model_performance
from monitoring.checks import data_quality, label_drift
from monitoring.checks.data_quality import Lags, QualityReport, WindowScan, scan
from monitoring.checks.label_drift import LabelDrift
from monitoring.checks.outcomes import join_labels
from monitoring.checks.results import Skipped
from monitoring.checks.serving_models import Watched
from monitoring.checks.skew_audit import COLUMNS, NOTHING, SkewAudit, SkewReport
from monitoring.feature_drift import DriftReport
from monitoring.log.reader import PredictionReader, Window
from monitoring.model_performance import PerformanceReport

logger = logging.getLogger(__name__)


class Report(Protocol):
    """What a check found."""

    @property
    def summary(self) -> str:
        """One line for people."""

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""


@dataclass(frozen=True)
class Failed:
    """A check that ended with an error: it says nothing about what it checks."""

    check: str
    reason: str


Outcome = Report | Skipped | Failed


@dataclass(frozen=True)
class PassResult:
    """What one pass found.

    Parameters
    ----------
    as_of
        The end of all windows.
    watched
        What served then; None before the first deployment.
    outcomes
        Check to what it found.
    """

    as_of: datetime
    watched: Watched | None
    outcomes: Mapping[str, Outcome]
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[Failed, ...]:
        """Checks that ended with an error."""
        return tuple(each for each in self.outcomes.values() if isinstance(each, Failed))

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each check, and one line of what it says."""
        for check, outcome in self.outcomes.items():
            if isinstance(outcome, Skipped):
                yield check, f"skipped: {outcome.reason}"
            elif isinstance(outcome, Failed):
                yield check, f"failed: {outcome.reason}"
            else:
                yield check, outcome.summary

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {
            check: {"skipped": outcome.reason}
            if isinstance(outcome, Skipped)
            else {"failed": outcome.reason}
            if isinstance(outcome, Failed)
            else outcome.to_json()
            for check, outcome in self.outcomes.items()
        }


@dataclass
class Monitor:
    """Runs the checks.

    Parameters
    ----------
    watched
        Gives what serves; None before the first deployment.
    lags
        Gives how far streams and shipping are behind.
    scanned
        What the vectors of the newest pass's window look like.
    """

    config: MonitoringConfig
    postgres: Postgres
    audit: SkewAudit
    watched: Callable[[], Watched | None]
    lags: Callable[[], Lags]
    reader: PredictionReader = field(init=False)
    scanned: WindowScan | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.reader = PredictionReader(self.postgres)
        self._performance: PerformanceReport | Skipped | None = None

    def run(self, now: datetime) -> PassResult:
        """Check everything as of a time; a check that fails keeps no other from its work.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL does not answer: nothing can be said then.
        """
        began = time.perf_counter()
        watched = self.watched()
        checks: dict[str, Callable[[], Outcome]] = {
            "drift": lambda: self.drift(watched, now),
            "performance": lambda: self.performance(watched, now),
            "label_drift": lambda: self.label_drift(watched, now),
            "skew": lambda: self.skew(watched, now),
            "quality": lambda: self.quality(watched, now),
        }
        self.scanned, self._performance = None, None
        outcomes = {name: _outcome(name, check) for name, check in checks.items()}
        return PassResult(now, watched, outcomes, time.perf_counter() - began)

    def drift(self, watched: Watched | None, now: datetime) -> DriftReport | Skipped:
        """Compare the champion's window with what it was trained on."""
        check, config = feature_drift.CHECK, self.config.drift
        reference = _reference(check, watched)
        if isinstance(reference, Skipped) or watched is None:
            return reference if isinstance(reference, Skipped) else _nothing_deployed(check)
        if not self.reader.exists("predictions"):
            return Skipped(check, "no predictions have been logged yet")
        window = self._window(now, config.window_hours, watched.champion)
        self.scanned = scan(self.reader, window, watched.schema, reference)
        found = feature_drift.compare(reference, self.scanned.features, self.scanned.scores, config)
        return self._with_left_out(found, window) if isinstance(found, Skipped) else found

    def performance(self, watched: Watched | None, now: datetime) -> PerformanceReport | Skipped:
        """Judge the predictions whose labels are known."""
        check, config = model_performance.CHECK, self.config.performance
        if watched is None:
            return _nothing_deployed(check)
        if not (self.reader.exists("predictions") and self.reader.exists("labels")):
            return Skipped(check, "no predictions, or no labels, have been stored yet")
        start = now - timedelta(days=config.window_days)
        places = [
            (watched.schema.position(name), name)
            for name in config.slices
            if name in watched.schema.positions
        ]
        # Vectors of another schema have other features at these places.
        is_one = len(watched.schemas) == 1
        predictions = self.reader.predictions(Window(start, now), places if is_one else ())
        labels = self.reader.labels(start, now)
        joined = join_labels(predictions, labels, timedelta(days=config.label_within_days))
        slices = {
            name: [MISSING_WORD] * FIRST_KNOWN + list(watched.schema.features[place].categories)
            for place, name in places
            if is_one
        }
        report = model_performance.judge(joined, start, now, config, slices)
        self._performance = report
        return report

    def label_drift(self, watched: Watched | None, now: datetime) -> LabelDrift | Skipped:
        """Compare the share of 1s among labels with that of the training."""
        reference, found = _reference(label_drift.CHECK, watched), self._performance
        if isinstance(reference, Skipped):
            return reference
        if not isinstance(found, PerformanceReport):
            return Skipped(label_drift.CHECK, "no labels in the window")
        few = self.config.performance.min_labels
        whole = found.whole
        return label_drift.compare(reference, whole.positives, whole.n, few, self.config.drift)

    def skew(self, watched: Watched | None, now: datetime) -> SkewReport | Skipped:
        """Compute logged vectors again from the offline store, as known at their time."""
        config = self.config.skew
        if watched is None:
            return _nothing_deployed("skew")
        if not self.reader.exists("predictions"):
            return Skipped("skew", "no predictions have been logged yet")
        window = Window(now - timedelta(hours=config.window_hours), now)
        report, limit = NOTHING, config.max_rows
        for fingerprint, schema in watched.schemas.items():
            logged = self.reader.newest_vectors(window, fingerprint, limit, COLUMNS)
            if logged is not None:
                report = report.merged(self.audit.audit(logged, schema))
        if not report.n:
            return Skipped("skew", f"no vectors to audit in the last {config.window_hours:g} hours")
        return report

    def quality(self, watched: Watched | None, now: datetime) -> QualityReport | Skipped:
        """Check contracts, freshness and lags."""
        config, duplicates = self.config.quality, None
        scanned = self.scanned
        if watched is not None and scanned is not None:
            window = self._window(now, config.window_hours, watched.champion)
            if config.window_hours != self.config.drift.window_hours and watched.reference:
                scanned = scan(self.reader, window, watched.schema, watched.reference)
            if config.predictions.max_duplicate_share is not None:
                duplicates = data_quality.duplicate_share(self.reader, window)
        ages = data_quality.ages_of(self.postgres, config, now)
        report = data_quality.judge(config, scanned, duplicates, ages, self.lags())
        return report if report.clauses else Skipped("quality", "no contract asks for anything")

    def _with_left_out(self, skipped: Skipped, window: Window) -> Skipped:
        """Say how many predictions were left out, where that is why there are too few."""
        counts = self.reader.counts(replace(window, stored_only=False))
        n = int(counts.filter(counts["by_request"])["n"].sum())
        if not window.stored_only or not n:
            return skipped
        left_out = (
            f"{n:,} from attributes of requests were left out ('drift.of: all' takes them in)"
        )
        return Skipped(skipped.check, f"{skipped.reason}; {left_out}")

    def _window(self, now: datetime, hours: float, version: str) -> Window:
        stored_only = self.config.drift.of == "stored"
        return Window(now - timedelta(hours=hours), now, version, stored_only)


def _outcome(name: str, check: Callable[[], Outcome]) -> Outcome:
    try:
        return check()
    except FTIError as error:
        return Failed(name, str(error))
    except Exception as error:
        logger.exception("monitoring: the check '%s' has a defect", name)
        return Failed(name, f"{type(error).__name__}: {error}")


def _reference(check: str, watched: Watched | None) -> ReferenceProfile | Skipped:
    if watched is None:
        return _nothing_deployed(check)
    if watched.reference is None:
        return Skipped(
            check,
            f"{watched.champion} was trained before profiles were kept with models; train and "
            "deploy a new version",
        )
    return watched.reference


def _nothing_deployed(check: str) -> Skipped:
    return Skipped(check, "nothing is deployed; run python pipelines/deployment.py")
