"""One pass of monitoring: every check on the windows that end now, each by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from configs.errors import FTIError
from configs.monitoring_config import MonitoringConfig
from feature_store.definitions.schema import FIRST_KNOWN
from feature_store.offline.postgres import Postgres
from models.artifact.profile import ReferenceProfile
from models.evaluation.slices import MISSING_WORD
from monitoring.checks import data_quality, drift, performance
from monitoring.checks.data_quality import Lags, QualityReport, WindowScan, scan
from monitoring.checks.drift import DriftReport, LabelDrift
from monitoring.checks.performance import PerformanceReport, join_labels
from monitoring.checks.results import CheckOutcome, Failed, PassResult, Skipped
from monitoring.checks.serving_models import ServingModels
from monitoring.checks.skew_audit import COLUMNS, NOTHING, SkewAudit, SkewReport
from monitoring.log.reader import LogWindow, PredictionReader

logger = logging.getLogger(__name__)


@dataclass
class Monitor:
    """Runs the checks.

    Parameters
    ----------
    serving
        Gives what serves; None before the first deployment.
    lags
        Gives how far streams and shipping are behind.
    scanned
        What the vectors of the newest pass's window look like.
    """

    config: MonitoringConfig
    postgres: Postgres
    audit: SkewAudit
    serving: Callable[[], ServingModels | None]
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
        serving = self.serving()
        checks: dict[str, Callable[[], CheckOutcome]] = {
            "drift": lambda: self.drift(serving, now),
            "performance": lambda: self.performance(serving, now),
            "label_drift": lambda: self.label_drift(serving, now),
            "skew": lambda: self.skew(serving, now),
            "quality": lambda: self.quality(serving, now),
        }
        self.scanned, self._performance = None, None
        outcomes = {name: _run_check(name, check) for name, check in checks.items()}
        return PassResult(now, serving, outcomes, time.perf_counter() - began)

    def drift(self, serving: ServingModels | None, now: datetime) -> DriftReport | Skipped:
        """Compare the champion's window with what it was trained on."""
        check, config = drift.CHECK, self.config.drift
        reference = _reference(check, serving)
        if isinstance(reference, Skipped) or serving is None:
            return reference if isinstance(reference, Skipped) else _nothing_deployed(check)
        window = self._window(now, config.window_hours, serving.champion)
        self.scanned = scan(self.reader, window, serving.schema, reference)
        found = drift.compare(reference, self.scanned.features, self.scanned.scores, config)
        return self._with_left_out(found, window) if isinstance(found, Skipped) else found

    def performance(
        self, serving: ServingModels | None, now: datetime
    ) -> PerformanceReport | Skipped:
        """Compare predictions with the labels that are known."""
        check, config = performance.CHECK, self.config.performance
        if serving is None:
            return _nothing_deployed(check)
        start = now - timedelta(days=config.window_days)
        places = [
            (serving.schema.position(name), name)
            for name in config.slices
            if name in serving.schema.positions
        ]
        # Vectors of another schema have other features at these places.
        is_one = len(serving.schemas) == 1
        predictions = self.reader.predictions(LogWindow(start, now), places if is_one else ())
        labels = self.reader.labels(start, now)
        joined = join_labels(predictions, labels, timedelta(days=config.label_within_days))
        slices = {
            name: [MISSING_WORD] * FIRST_KNOWN + list(serving.schema.features[place].categories)
            for place, name in places
            if is_one
        }
        report = performance.evaluate(joined, start, now, config, slices)
        self._performance = report
        return report

    def label_drift(self, serving: ServingModels | None, now: datetime) -> LabelDrift | Skipped:
        """Compare the share of 1s among labels with that of the training."""
        reference, found = _reference(drift.LABEL_CHECK, serving), self._performance
        if isinstance(reference, Skipped):
            return reference
        if not isinstance(found, PerformanceReport):
            return Skipped(drift.LABEL_CHECK, "no labels in the window")
        few = self.config.performance.min_labels
        whole = found.whole
        return drift.compare_labels(reference, whole.positives, whole.n, few, self.config.drift)

    def skew(self, serving: ServingModels | None, now: datetime) -> SkewReport | Skipped:
        """Compute logged vectors again from the offline store, as known at their time."""
        config = self.config.skew
        if serving is None:
            return _nothing_deployed("skew")
        window = LogWindow(now - timedelta(hours=config.window_hours), now)
        report, limit = NOTHING, config.max_rows
        for fingerprint, schema in serving.schemas.items():
            logged = self.reader.newest_vectors(window, fingerprint, limit, COLUMNS)
            if logged is not None:
                report = report.merged(self.audit.audit(logged, schema))
        if not report.n:
            return Skipped("skew", f"no vectors to audit in the last {config.window_hours:g} hours")
        return report

    def quality(self, serving: ServingModels | None, now: datetime) -> QualityReport | Skipped:
        """Check contracts, freshness and lags."""
        config, duplicates = self.config.quality, None
        scanned = self.scanned
        if serving is not None and scanned is not None:
            window = self._window(now, config.window_hours, serving.champion)
            if config.window_hours != self.config.drift.window_hours and serving.reference:
                scanned = scan(self.reader, window, serving.schema, serving.reference)
            if config.predictions.max_duplicate_share is not None:
                duplicates = data_quality.duplicate_share(self.reader, window)
        ages = data_quality.ages_of(self.postgres, config, now)
        report = data_quality.check_contracts(config, scanned, duplicates, ages, self.lags())
        return report if report.clauses else Skipped("quality", "no contract asks for anything")

    def _with_left_out(self, skipped: Skipped, window: LogWindow) -> Skipped:
        """Say how many predictions were left out, where that is why there are too few."""
        counts = self.reader.counts(replace(window, stored_only=False))
        n = int(counts.filter(counts["by_request"])["n"].sum())
        if not window.stored_only or not n:
            return skipped
        left_out = (
            f"{n:,} from attributes of requests were left out ('drift.of: all' takes them in)"
        )
        return Skipped(skipped.check, f"{skipped.reason}; {left_out}")

    def _window(self, now: datetime, hours: float, version: str) -> LogWindow:
        stored_only = self.config.drift.of == "stored"
        return LogWindow(now - timedelta(hours=hours), now, version, stored_only)


def _run_check(name: str, check: Callable[[], CheckOutcome]) -> CheckOutcome:
    try:
        return check()
    except FTIError as error:
        return Failed(name, str(error))
    except Exception as error:
        logger.exception("monitoring: the check '%s' has a defect", name)
        return Failed(name, f"{type(error).__name__}: {error}")


def _reference(check: str, serving: ServingModels | None) -> ReferenceProfile | Skipped:
    if serving is None:
        return _nothing_deployed(check)
    if serving.reference is None:
        return Skipped(
            check,
            f"{serving.champion} was trained before profiles were kept with models; train and "
            "deploy a new version",
        )
    return serving.reference


def _nothing_deployed(check: str) -> Skipped:
    return Skipped(check, "nothing is deployed; run python pipelines/deployment.py")
