"""A source read to its end: the good rows kept aside, everything seen counted."""

from __future__ import annotations

from datetime import datetime

from configs.command_line import Stopwatch, progress
from configs.feature_config import FeatureConfig
from feature_store.definitions import validation
from feature_store.definitions.engine import Engine
from feature_store.definitions.horizon import Horizon
from feature_store.definitions.view import FeatureView
from feature_store.ingest import batches as ingest
from feature_store.ingest.batches import Interval
from feature_store.ingest.run_stats import RunStats
from feature_store.ingest.staging import Staging
from feature_store.offline.vocabularies import Vocabularies
from feature_store.sources.port import Reading


def compute(
    reading: Reading,
    staging: Staging,
    view: FeatureView,
    config: FeatureConfig,
    during: Interval | None,
    stopwatch: Stopwatch,
    now: datetime,
    vocabularies: Vocabularies | None = None,
) -> RunStats:
    """Read, parse, compute and check batch by batch, and keep the good rows aside.

    Parameters
    ----------
    now
        Rows whose events have not passed by then are held back: the source gives them again.
    vocabularies
        Learn the words of open vocabularies, where the view has some.
    """
    horizon = Horizon(now, config.max_ahead)
    if vocabularies is not None:
        view = vocabularies.view(view)
    engine, stats = Engine(view), RunStats()
    with progress("Loading", None, " rows") as advance:
        stopwatch.lap()
        for read in reading:
            batch = ingest.inside(read, view, config, during)
            if len(batch):
                if vocabularies is not None and engine.schema.open_features:
                    view = ingest.learn_words(batch, view, config.source, vocabularies)
                    if view.schema.words != engine.schema.words:
                        engine = Engine(view)
                table = ingest.parse(batch, view, config.source, config.event_time, horizon)
                stopwatch.spend("load")
                matrix = ingest.engineer(table, engine)
                stopwatch.spend("engineer")
                refused, failing = validation.check_features(matrix.schema, matrix.values)
                refused |= table.reasons
                if table.held_back.any():
                    reading.hold_back()
                stats.add(table, refused, failing)
                stopwatch.spend("validate")
                features, labels, keys = ingest.good_rows(table, matrix, refused)
                staging.add(features, labels, ingest.quarantined_rows(table, refused), keys.texts)
                stopwatch.spend("store")
            advance(len(read))
        stopwatch.spend("load")
    return stats
