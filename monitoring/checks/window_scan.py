"""One read of a window's vectors, from which drift and data quality are both judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FeatureSchema
from models.artifact.profile import Histogram, Profile, ReferenceProfile
from monitoring.log.reader import PredictionReader, Window


@dataclass(frozen=True)
class WindowScan:
    """What the vectors of a window look like.

    Parameters
    ----------
    features, scores
        Counted into the bins of the reference.
    out_of_range
        int64 ``(p,)``: values outside the range that a feature is declared with.
    """

    features: Profile
    scores: Histogram
    out_of_range: NDArray[np.int64]


def scan(
    reader: PredictionReader, window: Window, schema: FeatureSchema, reference: ReferenceProfile
) -> WindowScan:
    """Count the vectors of a window, block by block; none is kept."""
    none = np.empty((0, len(schema)), dtype=np.float32)
    features, scores = reference.features.counted(none), reference.scores.counted(none[:, 0])
    outside = np.zeros(len(schema), dtype=np.int64)
    low, high = _limits(schema)
    for block in reader.vectors(window, schema.fingerprint):
        features = features.merged(reference.features.counted(block.values))
        scores = scores.merged(reference.scores.counted(block.probabilities.astype(np.float32)))
        outside += ((block.values < low) | (block.values > high)).sum(axis=0)
    return WindowScan(features, scores, outside)


def _limits(schema: FeatureSchema) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and largest valid value of each feature; categories have none."""
    free = (-np.inf, np.inf)
    limits = [
        free if feature.valid_range is None or feature.kind == "category" else feature.valid_range
        for feature in schema.features
    ]
    low, high = np.array(limits, dtype=np.float32).T
    return low, high
