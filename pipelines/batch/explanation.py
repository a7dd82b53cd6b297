"""The largest contributions to each prediction: exact for trees, sampled for other families."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import ModelArtifact
from models.bulk_scorer import BulkScorer, ParallelScorer
from models.onnx.scorer import OnnxScorer

if TYPE_CHECKING:
    import pyarrow as pa


def explainer_of(
    artifact: ModelArtifact, scorer: BulkScorer | ParallelScorer
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """What gives contributions ``(n, p)`` to the log-odds of vectors ``(n, p)``."""
    if isinstance(scorer, BulkScorer):
        return scorer.contributions
    from serving.routes.explainer import SampledExplainer

    graph = OnnxScorer(artifact.read("model.onnx"), len(artifact.features))
    sampled = SampledExplainer(graph, artifact.example()[0])

    def explain(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.array([sampled.contributions(row) for row in values])

    return explain


def top_contributions(
    contributions: NDArray[np.float64], names: tuple[str, ...], n: int
) -> pa.ListArray:
    """The ``n`` largest of each row ``(m, p)`` by size, with the names of their features."""
    import pyarrow as pa

    n = min(n, len(names))
    largest = np.argsort(-np.abs(contributions), axis=1, kind="stable")[:, :n]
    values = np.take_along_axis(contributions, largest, axis=1).astype(np.float32)
    features = pa.array(names).take(pa.array(largest.ravel()))
    parts = ["feature", "contribution"]
    pairs = pa.StructArray.from_arrays([features, pa.array(values.ravel())], parts)
    offsets = np.arange(len(largest) + 1, dtype=np.int32) * n
    return pa.ListArray.from_arrays(pa.array(offsets), pairs)
