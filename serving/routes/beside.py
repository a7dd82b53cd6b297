"""What answers beside ``/predict``: its parts, and all their paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from fastapi import FastAPI

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.online.row_codec import Row
from monitoring.log.postgres_reader import PostgresReader
from monitoring.log.receipts import Receipts
from monitoring.log.writer import SharedLog
from serving.prediction.batch_predictor import BatchPredictor
from serving.prediction.predictor import Predictor
from serving.redis.reader import OnlineReader
from serving.routes.batch_routes import add_batch
from serving.routes.experiment_routes import add_experiment
from serving.routes.explain_routes import add_explain
from serving.routes.explanations import Explanations
from serving.routes.feedback_routes import add_feedback
from serving.routes.lineage import Lineages
from serving.routes.lookup_routes import add_features, add_model
from serving.routes.past_models import PastModels
from serving.routes.receipt_routes import add_receipts, finder


@dataclass(frozen=True)
class Beside:
    """The parts; nothing is connected before it is asked for.

    Parameters
    ----------
    predictor
        The one of ``/predict``, for what it knows.
    reader
        Of the online store.
    log
        Takes labels and the receipts of batches, from any thread.
    table
        Reads PostgreSQL.
    ttl
        Age beyond which stored features are taken as missing; None for never.
    clock
        Gives the present time in UTC.
    """

    predictor: Predictor
    reader: OnlineReader
    log: SharedLog
    table: PostgresReader
    receipts: Receipts
    models: PastModels
    lineages: Lineages
    batches: BatchPredictor
    explanations: Explanations
    ttl: timedelta | None
    clock: Callable[[], datetime]

    def add_paths(self, app: FastAPI, view: FeatureView) -> None:
        """Add the paths of all parts to an app."""
        watcher = self.predictor.watcher
        find = finder(self.receipts)
        add_receipts(app, find, self.models, watcher, view.schema)
        add_feedback(app, self.log, view.entity, self.predictor.texts, self.clock)
        add_batch(app, self.batches, view)
        add_explain(app, self.explanations, view, find)
        add_model(app, watcher, self.lineages)
        add_experiment(app, watcher, self.table, self.models.model_name)
        add_features(app, self.reader, watcher, view.schema, self.ttl, self._missing)

    async def stop(self) -> None:
        """Close what was opened."""
        await self.table.close()
        self.batches.rows.close()
        self.log.close()

    def _missing(self, schema: FeatureSchema, row: Row) -> list[str]:
        return self.predictor.features.of(schema).missing.of(row.vector[np.newaxis, :])[0]
