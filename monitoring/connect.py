"""Builds what this room needs from the settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from configs.settings import Settings
from feature_store.connect import event_stream, offline_store, raw_source, redis_client, ttl
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.horizon import Horizon
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.batches import parse
from feature_store.offline.postgres import Postgres
from feature_store.stream.progress import SILENT_AFTER_S, StatusBoard
from infrastructure.embedded import postgres_url
from models.artifact.artifact import ModelArtifact
from models.connect import artifact_cache, current_deployment, history, now, postgres
from models.gates.held_out import split_of
from monitoring.alerting.rules import Alerts
from monitoring.alerting.sinks import build_sink
from monitoring.alerting.store import AlertStore
from monitoring.checks.data_quality import Lags
from monitoring.checks.serving_models import ServingModels, read_serving_models
from monitoring.checks.skew_audit import SkewAudit
from monitoring.errors import MonitoringRefused
from monitoring.experiments.exposure_reader import ExposureReader
from monitoring.experiments.store import ExperimentStore
from monitoring.log.reader import PredictionReader
from monitoring.log.shipper import shipping_lag_s
from monitoring.passes.follow_up import PassRunner
from monitoring.passes.run import Monitor
from monitoring.reporting.evidently_report import FullReports
from monitoring.reporting.results_store import ResultsStore
from monitoring.retraining_requests import RetrainingStore
from monitoring.simulation.simulation import Assign, Simulation, champion_only, people
from monitoring.simulation.world import World


def prediction_reader(settings: Settings) -> PredictionReader:
    """Reads the prediction log and labels; starts the embedded PostgreSQL if need be."""
    return PredictionReader(Postgres(postgres_url(settings)))


def alerts(settings: Settings) -> Alerts:
    """Rules, states and sinks.

    Raises
    ------
    SinkRefused
        If a variable that a sink needs is not set.
    """
    config = settings.monitoring.alerts
    sinks = [build_sink(sink, config.send_limit_s) for sink in config.sinks]
    return Alerts(config, AlertStore(postgres(settings)), sinks)


def results_store(settings: Settings) -> ResultsStore:
    """What passes of monitoring have found."""
    keep = timedelta(days=settings.monitoring.keep_days)
    return ResultsStore(postgres(settings), settings.model_name, keep)


def retraining_store(settings: Settings) -> RetrainingStore:
    """Requests for a new model, and what became of them."""
    return RetrainingStore(postgres(settings), settings.model_name)


def serving_models(settings: Settings) -> ServingModels | None:
    """The versions that serve; None before the first deployment."""
    current = current_deployment(settings)
    if current is None:
        return None
    return read_serving_models(settings.model_name, current, artifact_cache(settings))


def skew_audit(settings: Settings) -> SkewAudit:
    """Computes logged vectors again."""
    return SkewAudit(offline_store(settings), Engine(MODEL_VIEW), ttl(settings))


def monitor(settings: Settings) -> Monitor:
    """Runs all checks."""
    return Monitor(
        settings.monitoring,
        Postgres(postgres_url(settings)),
        skew_audit(settings),
        lambda: serving_models(settings),
        lambda: lags(settings),
    )


def pass_runner(settings: Settings) -> PassRunner:
    """Runs passes of monitoring and follows them up."""
    return PassRunner(
        settings.monitoring,
        monitor(settings),
        results_store(settings),
        alerts(settings),
        retraining_store(settings),
    )


def full_reports(settings: Settings) -> FullReports:
    """Makes Evidently's reports; training rows are drawn again from the offline store."""

    def training_rows(artifact: ModelArtifact) -> FeatureMatrix:
        rows = history(settings).rows(artifact).rows
        return split_of(artifact, rows).train.features

    return FullReports(
        settings.monitoring.drift,
        prediction_reader(settings),
        training_rows,
        settings.var_dir / "monitoring",
    )


def world(settings: Settings, start: datetime) -> World:
    """The simulated world, whose visitors are drawn from the rows of the configured source.

    Raises
    ------
    MonitoringRefused
        If the source has no labels, or an incident is about a column that is not there.
    """
    view = offline_store(settings).vocabularies.view(MODEL_VIEW)
    config, engine, tables = settings.feature, Engine(view), []
    horizon = Horizon(datetime.now(UTC), config.max_ahead)
    for batch in raw_source(settings).read():
        table = parse(batch, view, config.source, config.event_time, horizon)
        if table.labels is None:
            raise MonitoringRefused("The source has no labels; the simulated world needs some.")
        good = np.setdiff1d(np.arange(len(table)), list(table.reasons))
        columns = {name: column[good] for name, column in table.columns.items()}
        tables.append({**columns, "": table.labels[good]})
    raw = people(tables)
    labels = raw.pop("")
    return World(settings.monitoring.simulation, engine, raw, labels, start)


def simulation(settings: Settings, start: datetime, assign: Assign = champion_only) -> Simulation:
    """Plays the simulated world into the configured stores."""
    return Simulation(
        world(settings, start),
        offline_store(settings),
        postgres(settings),
        lambda: current_deployment(settings),
        artifact_cache(settings),
        assign,
    )


def exposure_reader(settings: Settings) -> ExposureReader:
    """Reads the predictions of A/B tests; starts the embedded PostgreSQL without a URL."""
    schema = offline_store(settings).vocabularies.schema(MODEL_VIEW.schema)
    # Receipts name the features that a model takes: what is for lookup is not among them.
    return ExposureReader(Postgres(postgres_url(settings)), schema.model_inputs)


def experiment_store(settings: Settings) -> ExperimentStore:
    """The decisions about A/B tests of the registered model."""
    return ExperimentStore(postgres(settings), settings.model_name)


def lags(settings: Settings) -> Lags:
    """How far streams and shipping are behind; what no contract asks for is not looked up."""
    quality = settings.monitoring.quality
    backlog = delay = None
    if quality.max_stream_backlog is not None:
        backlog = event_stream(settings).backlog()
    if quality.max_stream_delay_ms is not None:
        client = redis_client(settings, settings.feature.online.write_deadline_ms)
        board = StatusBoard(client, settings.feature.project)
        living = [s for s in board.read(now()) if (now() - s.at).total_seconds() < SILENT_AFTER_S]
        delay = max((s.delay_ms for s in living if s.delay_ms is not None), default=None)
    shipping = None
    if quality.max_shipping_lag_s is not None:
        shipping = shipping_lag_s(settings.var_dir / "predictions", postgres(settings), now())
    return Lags(backlog, delay, shipping)
