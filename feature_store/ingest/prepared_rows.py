"""Raw rows of any source as one table: named, keyed, dated and trimmed, but not yet judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.feature_config import FeatureConfig
from feature_store.definitions.entity import Entity
from feature_store.definitions.validation import Reasons
from feature_store.definitions.view import FeatureView
from feature_store.ingest.batches import keys_and_times, wanted_columns
from feature_store.ingest.parsing import ParsedKeys
from feature_store.sources.port import Source

if TYPE_CHECKING:
    import polars as pl

EVENT_TIME = "event_timestamp"
SOURCE_NAME = "prepared"
"""Stands at the watermark, apart from the source that the rows came from."""


@dataclass(frozen=True)
class Prepared:
    """Rows as a table.

    Parameters
    ----------
    frame
        Entity key, ``event_timestamp``, the raw columns and the label, as the source wrote them;
        null is missing.
    refused
        How many rows have no usable key or time, or could not be split; they are not in it.
    """

    frame: pl.DataFrame
    refused: int


def prepare(source: Source, view: FeatureView, config: FeatureConfig) -> Prepared:
    """Read all rows of a source; what their values are worth is judged later.

    Raises
    ------
    SourceError
        If the source cannot be read, or lacks a column.
    """
    import polars as pl

    frames, refused = [], 0
    for batch in source.read():
        texts = wanted_columns(batch, view, config.source)
        reasons: Reasons = {place: broken.reason for place, broken in batch.broken.items()}
        keys, times = keys_and_times(
            batch, texts, view.key, config.source, config.event_time, reasons
        )
        good = np.ones(len(batch), dtype=bool)
        good[list(reasons)] = False
        refused += len(reasons)
        kept = {*view.attributes, *view.exact, config.source.label_column}
        raw = {name: texts[name] for name in texts if name in kept}
        frame = pl.DataFrame({**_key_columns(view.key, keys), EVENT_TIME: times, **raw})
        frames.append(frame.filter(pl.Series(good)))
    return Prepared(pl.concat(frames), refused)


def _key_columns(entity: Entity, keys: ParsedKeys) -> dict[str, Any]:
    if keys.texts is None:
        return {entity.columns[0]: keys.identities}
    if len(entity.parts) == 1:
        return {entity.columns[0]: keys.texts.tolist()}
    values = [entity.parse(text) if text else (None,) * len(entity.parts) for text in keys.texts]
    return dict(zip(entity.columns, map(list, zip(*values, strict=True)), strict=True))


def reading_prepared(config: FeatureConfig, view: FeatureView, path: str) -> FeatureConfig:
    """Settings with which the feature pipeline reads the prepared table instead of the source."""
    source = {
        "type": "files",
        "name": SOURCE_NAME,
        "files": [{"path": path}],
        "key_column": view.key.columns[0] if len(view.key.parts) == 1 else view.key.columns,
        "event_time_column": EVENT_TIME,
        **config.source.model_dump(include={"missing", "label_column", "label_values"}),
    }
    return FeatureConfig(**{**config.model_dump(), "source": source})
