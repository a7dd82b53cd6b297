"""What every engine applies: an Arrow table of an input in, a batch of predictions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from models.artifact.artifact import ModelArtifact
from models.bulk_scorer import BulkScorer, ParallelScorer
from models.onnx.scorer import OnnxScorer
from pipelines.batch.features import Featurizer
from pipelines.batch.keys import KeyReader
from pipelines.batch.plan import Plan

if TYPE_CHECKING:
    import pyarrow as pa


Matrix = NDArray[np.float32]
Contributions = Callable[[Matrix], NDArray[np.float64]]
"""What each feature adds to the log-odds: ``(n, p)`` for ``(n, p)``."""


@dataclass(frozen=True)
class ChunkScorer:
    """Scores rows: the same bits in any process, and in any company.

    Parameters
    ----------
    plan
        What the run does.
    names
        Of the features, in order.
    featurize
        Gives vectors.
    keys
        Reads whom the rows are about.
    scorer
        Answers them, each with the bits that it has alone.
    texts
        What to say for class 0 and class 1.
    contributions
        Explains them; None when no explanation is asked for.
    """

    plan: Plan
    names: tuple[str, ...]
    featurize: Featurizer
    keys: KeyReader
    scorer: BulkScorer | ParallelScorer
    texts: tuple[str, str]
    contributions: Contributions | None = None

    def features(self, rows: pa.Table, where: str) -> FeatureMatrix:
        """Vectors of the rows of an input."""
        found = self.featurize(self.keys.read(rows, where), rows, where)
        return replace(found, values=found.schema.known_codes(found.values))

    def predictions(self, rows: FeatureMatrix, texts: Sequence[str] | None) -> pa.RecordBatch:
        """Predictions of vectors, in their order.

        Parameters
        ----------
        texts
            Each key as one text, where it is no whole number.
        """
        import pyarrow as pa

        n, plan = len(rows.keys), self.plan
        probabilities = self.scorer.predict(rows.values)
        positive = probabilities.astype(np.float64) >= plan.model.threshold
        keys = [pa.array(rows.keys)]
        if texts is not None:
            keys = [column.combine_chunks() for column in self.keys.table(texts).columns]
        columns = [
            *keys,
            pa.array(probabilities),
            pa.array(self.texts).take(pa.array(positive.astype(np.int8))),
            *(pa.repeat(text, n) for text in self._same),
            pa.repeat(pa.scalar(plan.scored_at, pa.timestamp("us", "UTC")), n),
            pa.array(rows.times, pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
        ]
        if self.contributions is not None:
            found = self.contributions(rows.values)
            columns.append(top_contributions(found, self.names, plan.explain))
        return pa.record_batch(columns, schema=self.schema)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the predictions."""
        import pyarrow as pa

        time = pa.timestamp("us", "UTC")
        fields = [
            *self.keys.fields,
            ("probability", pa.float32()),
            *((name, pa.string()) for name in ("prediction", "model_version", "engine")),
            ("schema_fingerprint", pa.string()),
            *(("scored_at", time), ("feature_event_time", time)),
        ]
        if self.plan.explain:
            one = pa.struct([("feature", pa.string()), ("contribution", pa.float32())])
            fields.append(("contributions", pa.list_(one)))
        return pa.schema(fields)

    @property
    def _same(self) -> tuple[str, str, str]:
        """What is the same in every row."""
        return self.plan.model.label, self.scorer.engine, self.plan.model.fingerprint


def explainer_of(artifact: ModelArtifact, scorer: BulkScorer | ParallelScorer) -> Contributions:
    """What gives contributions ``(n, p)`` to the log-odds of vectors ``(n, p)``."""
    if isinstance(scorer, BulkScorer):
        return scorer.contributions
    from serving.prediction.explainer import SampledExplainer

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
