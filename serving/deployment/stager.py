"""Follows the record of deployments for a whole host: stage first, activate second.

A new record is staged (fetched, every byte checked, tried on its example) and only then named in
the file that the workers look at. What cannot be staged changes nothing.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

from configs.errors import FTIError
from models.deployment.record import Deployment
from serving.deployment.current_file import AgentFile, AgentState, CurrentFile, RestageRequest
from serving.errors import DeploymentUnusable
from serving.model_loader import ModelLoader

logger = logging.getLogger(__name__)

RETRY_STAGING_S = 10.0
REPORT_S = 1.0
"""Between two reports that nothing has changed."""


class DeploymentRecords(Protocol):
    """Where deployments are recorded."""

    def generation(self) -> int:
        """The newest generation, 0 for none."""

    def current(self) -> Deployment | None:
        """The newest record."""


class DeploymentStaging:
    """Makes the newest record the one to serve; `poll` is called again and again.

    Parameters
    ----------
    records
        The record to follow.
    loader
        Fetches, checks and tries models.
    current
        The file that says what to serve.
    report
        The file that says how this goes.
    request
        By which workers ask to stage again.
    """

    def __init__(
        self,
        records: DeploymentRecords,
        loader: ModelLoader,
        current: CurrentFile,
        report: AgentFile,
        request: RestageRequest,
    ) -> None:
        self.records = records
        self.loader = loader
        self.current = current
        self.report = report
        self.request = request
        self._staged: int | None = None
        self._refused: tuple[int, float, FTIError] | None = None
        self._state = AgentState()
        self._reported_at = 0.0

    def poll(self) -> None:
        """Look whether there is a new deployment; if so stage it, then activate it.

        Raises
        ------
        FTIError, OSError
            If the record cannot be read, or what it names cannot be staged; what is served stays.
        """
        confirmed_at = self._state.confirmed_at
        try:
            generation = self.records.generation()
            confirmed_at = time.time()
            if self.request.take() or self.current.stamp() is None:
                self._staged = None
            if generation and generation != self._staged:
                self._follow(generation)
        except (FTIError, OSError) as error:
            self._tell(AgentState(confirmed_at, str(error)))
            raise
        self._tell(AgentState(confirmed_at))

    def _follow(self, generation: int) -> None:
        if self._refused and self._refused[0] == generation:
            _, refused_at, error = self._refused
            if time.monotonic() - refused_at < RETRY_STAGING_S:
                raise error
        deployment = self.records.current()
        if deployment is None:
            return
        try:
            for arm in deployment.arms:
                self.loader.load(arm)
            if not self._is_current(deployment):
                self.current.write(deployment)
        except FTIError as error:
            self._refused = generation, time.monotonic(), error
            raise
        self._staged = deployment.generation
        logger.info("deployment %d is staged", deployment.generation)

    def _is_current(self, deployment: Deployment) -> bool:
        if self.current.stamp() is None:
            return False
        try:
            return self.current.read() == deployment
        except DeploymentUnusable as error:
            logger.warning("%s", error)
            return False

    def _tell(self, state: AgentState) -> None:
        is_news = state.problem != self._state.problem
        self._state = state
        if is_news or time.monotonic() - self._reported_at >= REPORT_S:
            self._reported_at = time.monotonic()
            self.report.write(state)
