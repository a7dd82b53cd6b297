"""Builds what serves from the settings."""

from __future__ import annotations

from functools import cache, partial
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings
from feature_store.connect import redis_client, ttl
from feature_store.definitions.engine import Engine
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.feature_definitions import MODEL_VIEW
from infrastructure import embedded
from infrastructure.background import Repeating
from infrastructure.servers import services
from models.connect import (
    artifact_cache,
    champion_of,
    deployment_store,
    model_registry,
    now,
    postgres,
)
from models.deployment.promotion import as_arm
from models.deployment.record import Arm
from models.onnx.scorer import OnnxScorer
from monitoring.log.postgres_reader import PostgresReader
from monitoring.log.receipts import Receipts
from monitoring.log.shipper import PredictionShipper
from monitoring.log.writer import PredictionLog, SharedLog
from serving.deployment.agent import HostAgent, HostLock
from serving.deployment.current_file import AgentFile, CurrentFile, RestageRequest
from serving.deployment.live import NOTHING_DEPLOYED, DeploymentFollower
from serving.deployment.past_models import PastModels
from serving.deployment.stager import DeploymentStaging
from serving.errors import NothingDeployed
from serving.metrics.metric_files import MetricFiles
from serving.metrics.metrics import Metrics
from serving.model_loader import ModelLoader
from serving.prediction.batch_predictor import BatchPredictor
from serving.prediction.model_features import FeatureVersions
from serving.prediction.online_rows import OnlineRows, UnrememberedFeatureSource
from serving.prediction.pools import WorkPools
from serving.prediction.predictor import Predictor
from serving.prediction.stored_features import StoredFeatureSource
from serving.redis.busy_wait import BusyWait
from serving.redis.protocol import RedisAddress
from serving.redis.reader import OnlineReader
from serving.routes.batch import add_batch
from serving.routes.experiment import add_experiment
from serving.routes.explain import Explanations, add_explain
from serving.routes.feedback import add_feedback
from serving.routes.lookup import Lineages, add_features, add_model
from serving.routes.receipts import add_receipts
from serving.service import AddRoutes, PredictionService

SHIPPING_REST_SHARE = 6.0
"""Shipping takes a seventh of a core, some 16,000 receipts a second, and more when more come."""
BATCH_READ_MS = 500
"""Longest wait for some hundred rows of the online store: a batch is patient."""
LOOKUP_LIMIT_S = 1.0
"""Longest wait for PostgreSQL of a request that looks something up."""


def prediction_service(settings: Settings, view: FeatureView = MODEL_VIEW) -> PredictionService:
    """Everything behind the API; nothing is connected before it is started.

    Parameters
    ----------
    view
        Whose features the models take.
    """
    api = settings.deployment.api
    follower = deployment_follower(settings)
    reader = online_reader(settings)
    log = PredictionLog(
        settings.var_dir / "predictions", settings.monitoring.prediction_log.segment_bytes
    )
    shipper = PredictionShipper(log.folder, postgres(settings), SHIPPING_REST_SHARE)
    metrics = Metrics()
    predictor = _predictor(settings, view, reader, follower, log, metrics)
    batches = _batches(settings, view, predictor, metrics)
    pools = WorkPools.of(api)
    table = PostgresReader(cache(partial(embedded.postgres_url, settings)), LOOKUP_LIMIT_S)
    return PredictionService(
        predictor=predictor,
        follower=follower,
        reader=reader,
        log=log,
        shipper=shipper,
        agent=host_agent(settings, shipper),
        following=Repeating("models", follower.poll, api.current_poll_ms / 1000),
        metrics=metrics,
        numbers=MetricFiles(settings.var_dir / "serving" / "metrics"),
        table=table,
        batches=batches,
        pools=pools,
        routes=_routes(settings, view, predictor, batches, table, pools),
        model_name=settings.model_name,
        project=settings.feature.project,
    )


def _routes(
    settings: Settings,
    view: FeatureView,
    predictor: Predictor,
    batches: BatchPredictor,
    table: PostgresReader,
    pools: WorkPools,
) -> list[AddRoutes]:
    """What answers beside ``/predict``; nothing is connected before it is asked for."""
    follower, name = predictor.follower, settings.model_name
    receipts = Receipts(table, predictor.log.folder, pools.lookups)
    models = PastModels(follower, follower.loader, table, name, pools.models)
    lineages = Lineages(follower.loader, partial(_mlflow_url, settings), name, pools.models)
    texts = predictor.texts
    return [
        partial(add_receipts, view=view, receipts=receipts, models=models, pool=pools.lookups),
        partial(
            add_feedback,
            view=view,
            log=batches.log,
            texts=texts,
            clock=now,
            pool=pools.reports,
            outranks_sources=settings.deployment.api.feedback_outranks_sources,
        ),
        partial(add_batch, view=view, predictor=batches, pool=pools.batches),
        partial(
            add_explain,
            view=view,
            explanations=Explanations(predictor, models, pools.explanations),
            receipts=receipts,
        ),
        partial(add_model, follower=follower, lineages=lineages),
        partial(add_experiment, follower=follower, records=table, model_name=name),
        partial(add_features, view=view, predictor=predictor, ttl=ttl(settings)),
    ]


def host_agent(settings: Settings, shipper: PredictionShipper) -> HostAgent:
    """What stages deployments and ships the log, in one process of this host at a time."""
    staging = DeploymentStaging(
        deployment_store(settings), model_loader(settings), *_staged_files(settings)
    )
    return HostAgent(
        HostLock(settings.var_dir / "serving" / "agent.lock"),
        stage=staging.poll,
        ship=shipper.run_once,
        stage_interval_s=settings.deployment.api.deployment_poll_ms / 1000,
        ship_interval_s=settings.monitoring.prediction_log.ship_interval_ms / 1000,
    )


def deployment_follower(settings: Settings) -> DeploymentFollower:
    """What keeps a worker at the deployment that is staged on this host."""
    engine = f"{OnnxScorer.engine} {version('onnxruntime')}"
    return DeploymentFollower(*_staged_files(settings), model_loader(settings), engine)


def _batches(
    settings: Settings, view: FeatureView, predictor: Predictor, metrics: Metrics
) -> BatchPredictor:
    def source(schema: FeatureSchema, nothing: NDArray[np.float32]) -> StoredFeatureSource:
        rows, entity = predictor.reader.rows(schema), view.entity
        return UnrememberedFeatureSource(rows, entity, nothing, ttl(settings), remembered=0)

    return BatchPredictor(
        FeatureVersions(Engine(view), source),
        OnlineRows(partial(redis_client, settings, BATCH_READ_MS)),
        predictor.follower,
        SharedLog(predictor.log.folder, predictor.log.segment_bytes),
        predictor.texts,
        metrics.observe_batch,
    )


def _mlflow_url(settings: Settings) -> str | None:
    """Where MLflow runs: a read starts no server."""
    if settings.mlflow_tracking_uri is not None:
        return settings.mlflow_tracking_uri
    running = services.find("mlflow", settings)
    return running.url if running else None


def arm_to_serve(settings: Settings, label: str | None = None) -> Arm:
    """The version of this label, or the champion, as an arm that takes all traffic.

    Raises
    ------
    UnknownModel, NothingDeployed
        If there is no such version, or no champion.
    """
    if label is not None:
        return as_arm(model_registry(settings).find(label))
    champion = champion_of(settings)
    if champion is None:
        raise NothingDeployed(NOTHING_DEPLOYED)
    return champion


def model_loader(settings: Settings) -> ModelLoader:
    """The loader of models, with its cache below ``var/models``."""
    artifacts = artifact_cache(settings)
    return ModelLoader(artifacts.folder, artifacts.fetch, artifacts.mirror)


def online_reader(settings: Settings) -> OnlineReader:
    """The asynchronous reader of the online store."""
    # Found once: a server that was stopped on purpose is not started again by the API.
    address = cache(lambda: RedisAddress.parse(embedded.redis_url(settings)))
    return OnlineReader(
        address,
        settings.feature.project,
        settings.feature.online.read_deadline_ms / 1000,
        BusyWait(settings.deployment.api.awake_us / 1e6),
    )


def _staged_files(settings: Settings) -> tuple[CurrentFile, AgentFile, RestageRequest]:
    folder = settings.var_dir / "serving"
    return (
        CurrentFile(folder / "current.json"),
        AgentFile(folder / "agent.json"),
        RestageRequest(folder / "restage"),
    )


def _predictor(
    settings: Settings,
    view: FeatureView,
    reader: OnlineReader,
    follower: DeploymentFollower,
    log: PredictionLog,
    metrics: Metrics,
) -> Predictor:
    def source(schema: FeatureSchema, nothing: NDArray[np.float32]) -> StoredFeatureSource:
        return StoredFeatureSource(
            reader.rows(schema),
            view.entity,
            nothing,
            ttl=ttl(settings),
            remembered=settings.deployment.api.remembered_users,
            on_age=metrics.age,
        )

    features = FeatureVersions(Engine(view), source)
    deployment = settings.deployment
    return Predictor(
        *(features, reader, follower, log),
        texts=deployment.prediction_texts,
        batch_rows=deployment.api.batch_rows,
    )
