"""Fills Feast's own Redis store for the route that reads it."""

from __future__ import annotations

import logging

import pandas as pd
from feast.utils import _utc_now as now

from benchmarks.harness.stock_feast import stock
from benchmarks.subjects.http_load.stage import BODIES, Stage
from feature_store.feature_definitions import MODEL_VIEW


def write_users(stage: Stage) -> None:
    """Write the users that are asked for into Feast's own store, by its own means."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    store = stock(stage.settings, stage.folder)
    values, keys = stage.features.values, stage.features.keys
    rows = [MODEL_VIEW.schema.decode(vector) for vector in values[:BODIES]]
    frame = pd.DataFrame(rows).assign(
        user_id=keys[:BODIES], event_timestamp=now(), created_timestamp=now()
    )
    store.write_to_online_store(MODEL_VIEW.name, frame)
