"""The parts of a serving process, started and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from infrastructure.background import Repeating
from monitoring.errors import LogUnavailable
from monitoring.prediction_log import PredictionLog
from monitoring.prediction_shipper import PredictionShipper
from serving.beside import Beside
from serving.live import NOTHING_DEPLOYED, DeploymentWatcher
from serving.online_reader import OnlineReader
from serving.predictor import Predictor


@dataclass(frozen=True)
class PredictionService:
    """Everything behind the API.

    Parameters
    ----------
    following, shipping
        The threads that call the watcher's and the shipper's work again and again.
    beside
        What answers beside ``/predict``.
    """

    predictor: Predictor
    watcher: DeploymentWatcher
    reader: OnlineReader
    log: PredictionLog
    shipper: PredictionShipper
    following: Repeating
    shipping: Repeating
    beside: Beside

    async def start(self) -> None:
        """Start all parts; none of them failing keeps the others from starting."""
        with suppress(LogUnavailable):
            self.log.open()
        await asyncio.gather(asyncio.to_thread(self.following.attempt), self.reader.start())
        self.following.start()
        self.shipping.start()

    async def stop(self) -> None:
        """Stop all parts; receipts are shipped first, as far as PostgreSQL answers."""
        await self.reader.stop()
        await self.beside.stop()
        self.log.close()
        await asyncio.to_thread(self._stop_threads)

    def problem(self) -> str | None:
        """Say what keeps predictions from being answered, if anything does."""
        if self.log.problem is not None:
            return f"The prediction log cannot be written: {self.log.problem}."
        if self.watcher.live is None:
            return self.following.problem or NOTHING_DEPLOYED
        return None

    def watched(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """Name the values that metrics show: name to meaning and reading."""
        return {
            "fti_deployment_generation": (
                "Generation of the deployment that is live; 0 for none.",
                lambda: self.watcher.live.deployment.generation if self.watcher.live else 0,
            ),
            "fti_deployment_swaps": (
                "Deployments made live since the start.",
                lambda: self.watcher.swaps,
            ),
            "fti_deployment_confirmed": (
                "1 while the record of deployments can be read.",
                lambda: self.watcher.is_confirmed,
            ),
            "fti_prediction_batches": (
                "Batches in which predictions were answered since the start.",
                lambda: self.predictor.batches,
            ),
            "fti_online_store_connected": (
                "1 while features are read from Redis.",
                lambda: self.reader.is_connected,
            ),
            "fti_prediction_log_spool_bytes": (
                "Bytes of segment files not yet removed.",
                self.shipper.spool_bytes,
            ),
            "fti_prediction_log_shipping": (
                "1 while receipts reach PostgreSQL.",
                lambda: self.shipping.problem is None,
            ),
        }

    def _stop_threads(self) -> None:
        self.following.stop()
        self.shipping.stop()
        self.shipping.attempt()
        self.shipper.close()
