"""The parts of a serving process, started and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fastapi import FastAPI

from infrastructure.background import Repeating
from monitoring.errors import LogUnavailable
from monitoring.log.postgres_reader import PostgresReader
from monitoring.log.shipper import PredictionShipper
from monitoring.log.writer import PredictionLog
from serving.deployment.agent import HostAgent
from serving.deployment.live import DeploymentFollower
from serving.metrics.metric_files import MetricFiles
from serving.metrics.metrics import Metrics
from serving.prediction.batch_predictor import BatchPredictor
from serving.prediction.pools import WorkPools
from serving.prediction.predictor import Predictor
from serving.redis.reader import OnlineReader

AddRoutes = Callable[[FastAPI], None]
NEWS_LIMIT_S = 1.0
"""So long the start waits for news from the record of deployments before it serves what it has."""
FIRST_MODEL_LIMIT_S = 10.0
"""So long it waits when it has nothing to serve."""


@dataclass(frozen=True)
class PredictionService:
    """Everything behind the API.

    Parameters
    ----------
    agent
        Stages deployments and ships the log for the host, when this process holds its lock.
    following
        The thread that calls the follower again and again.
    metrics
        The metrics of this worker.
    numbers
        The file that shares them with the other workers of the host.
    batches
        Answers many requests at once.
    table
        Reads PostgreSQL for requests that look something up.
    pools
        The threads in which requests are answered beside single predictions.
    routes
        Each adds paths beside ``/predict`` to an app.
    model_name, project
        The registered model and the project of the feature store that it serves.
    """

    predictor: Predictor
    follower: DeploymentFollower
    reader: OnlineReader
    log: PredictionLog
    shipper: PredictionShipper
    agent: HostAgent
    following: Repeating
    metrics: Metrics
    numbers: MetricFiles
    batches: BatchPredictor
    table: PostgresReader
    pools: WorkPools
    routes: Sequence[AddRoutes]
    model_name: str
    project: str

    async def start(self) -> None:
        """Start all parts; none of them failing keeps the others from starting."""
        with suppress(LogUnavailable):
            self.log.open()
        self.agent.start()
        await asyncio.gather(asyncio.to_thread(self._first_look), self.reader.start())
        self.following.start()

    async def stop(self) -> None:
        """Stop all parts; receipts are shipped first, as far as PostgreSQL answers."""
        await self.pools.close()
        await self.reader.stop()
        await self.table.close()
        self.batches.close()
        self.log.close()
        await asyncio.to_thread(self._stop_threads)

    def problem(self) -> str | None:
        """Say what keeps predictions from being answered, if anything does."""
        if self.log.problem is not None:
            with suppress(LogUnavailable):  # without traffic, no prediction would open it
                self.log.open()
        if self.log.problem is not None:
            return f"The prediction log cannot be written: {self.log.problem}."
        if self.follower.live is None:
            return self.follower.missing_because
        return None

    def add_gauges(self) -> None:
        """Let the metrics show how the parts are."""
        add, follower, reader = self.metrics.add_gauge, self.follower, self.reader
        add(
            "fti_deployment_generation",
            "Generation that is live, in the worker furthest behind; 0 for none.",
            lambda: follower.live.deployment.generation if follower.live else 0,
        )
        add(
            "fti_deployment_challenger_share",
            "Share of the traffic that the challenger should get; 0 without one.",
            self._challenger_share,
        )
        add(
            "fti_deployment_swaps",
            "Deployments made live since the start, over all workers.",
            lambda: follower.swaps,
            sum,
        )
        add(
            "fti_deployment_refusals",
            "Staged deployments that could not be loaded, over all workers.",
            lambda: follower.refusals,
            sum,
        )
        add(
            "fti_deployment_confirmed",
            "1 while the record of deployments can be read.",
            lambda: follower.is_confirmed,
        )
        add(
            "fti_prediction_batches",
            "Batches in which predictions were answered, over all workers.",
            lambda: self.predictor.batches,
            sum,
        )
        add(
            "fti_online_store_connected",
            "1 while all workers read features from Redis.",
            lambda: reader.is_connected,
        )
        add(
            "fti_online_store_trips",
            "Times that the breaker has opened, over all workers.",
            lambda: reader.breaker.trips,
            sum,
        )
        add(
            "fti_prediction_log_spool_bytes",
            "Bytes of segment files not yet removed.",
            self.shipper.spool_bytes,
            max,
        )
        add(
            "fti_prediction_log_shipping",
            "1 while receipts reach PostgreSQL.",
            lambda: self.agent.shipping.problem is None,
        )
        add(
            "fti_prediction_log_writable",
            "1 while all workers can record predictions.",
            lambda: self.log.problem is None,
        )

    def _challenger_share(self) -> float:
        live = self.follower.live
        challenger = live.deployment.challenger if live else None
        return challenger.share if challenger else 0

    def _first_look(self) -> None:
        """Make live what is newest, or soon what is there; never wait long for either."""
        self.agent.has_looked.wait(NEWS_LIMIT_S)
        self.following.attempt()
        if self.follower.live is None:
            self.agent.has_looked.wait(FIRST_MODEL_LIMIT_S)
            self.following.attempt()

    def _stop_threads(self) -> None:
        self.following.stop()
        self.shipper.rest_share = 0.0  # there is no traffic to spare the CPU for
        self.agent.stop()
        self.shipper.close()
