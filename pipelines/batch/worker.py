"""The worker that scores chunks: the same in a thread of this machine and in a Spark task."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.entity_keys import find_keys
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from feature_store.online.row_codec import microseconds_of
from models.artifact.artifact import ModelArtifact
from models.base import share_cores
from models.bulk_scorer import bulk_scorer
from monitoring.log.batch_log import write_batch
from monitoring.log.record import Context, Flags, ScoredArm
from pipelines.batch.features import EngineeredFeatures, Featurizer, lookup_of, take_features
from pipelines.batch.folders import Folder
from pipelines.batch.inputs import Kind, OpenFile, RowStream
from pipelines.batch.keys import KeyReader, Keys, entities, key_checksum
from pipelines.batch.manifest import BINS, OutputFile
from pipelines.batch.output import Output
from pipelines.batch.plan import Chunk, Plan
from pipelines.batch.scoring import ChunkScorer, explainer_of

if TYPE_CHECKING:
    import pyarrow as pa

ARM = "batch"


@dataclass(frozen=True)
class Job:
    """Everything that a process needs to score chunks, beside the model's artifact.

    Parameters
    ----------
    plan
        What is done.
    place
        The folder of the output.
    database_url
        Of PostgreSQL; None where nothing is looked up or logged.
    texts
        The words for class 0 and class 1.
    rename
        How attributes are named: as in the feature settings.
    ttl
        Age beyond which stored features read as missing.
    environment
        The ``AWS_…`` variables.
    """

    plan: Plan
    place: str
    database_url: str | None
    texts: tuple[str, str]
    rename: Mapping[str, str]
    ttl: timedelta | None
    environment: Mapping[str, str]

    @property
    def output(self) -> Output:
        """Where the predictions go."""
        return Output(Folder.of(self.place, self.environment), self.plan.partition)

    @property
    def offline(self) -> OfflineStore:
        """Where features are looked up."""
        return OfflineStore(Postgres(self.database_url or ""))


class Worker:
    """Reads and scores chunks; several threads may score at once.

    Parameters
    ----------
    job
        What is done.
    artifact
        The model, its files checked.
    """

    def __init__(self, job: Job, artifact: ModelArtifact) -> None:
        share_cores()
        self.job = job
        self.plan = job.plan
        self.output = job.output
        self.schema = artifact.feature_schema
        self.keys = KeyReader(self.schema.key or Entity(self.plan.entity))
        # With one thread a call a row has the same bits in any company, whatever the family.
        scorer = bulk_scorer(artifact, threads=1)
        self.scorer = ChunkScorer(
            plan=job.plan,
            names=artifact.features,
            featurize=_featurizer(job, artifact),
            keys=self.keys,
            scorer=scorer,
            texts=job.texts,
            contributions=explainer_of(artifact, scorer) if job.plan.explain else None,
        )

    def tables(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, pa.Table]]:
        """The rows of chunks, in their order; neighbours in a file are read in one go."""
        stream, next_row = None, (-1, -1)
        for chunk in chunks:
            if self.plan.kind is Kind.everybody:
                yield chunk, self._stored(chunk)
                continue
            if stream is None or next_row != (chunk.file, chunk.start):
                file = self.plan.files[chunk.file]
                opened = OpenFile(file, self.job.rename, self.job.environment)
                stream = RowStream(opened, self.plan.columns, chunk.start)
            yield chunk, stream.take(chunk.rows)
            next_row = chunk.file, chunk.stop

    def _stored(self, chunk: Chunk) -> pa.Table:
        """The keys of the store that are in a range."""
        import pyarrow as pa

        entity, identities = self.keys.entity, self._identities(chunk)
        if entity.is_whole:
            return pa.table({entity.name: identities})
        return self.keys.table(find_keys(self.job.offline.postgres, entity, identities))

    def _identities(self, chunk: Chunk) -> Keys:
        plan = self.plan
        found = entities(
            self.job.offline,
            self.schema,
            plan.entity,
            as_of=plan.as_of,
            known_by=plan.scored_at,
            keys=(chunk.start, chunk.stop),
        )
        return np.concatenate([np.empty(0, np.int64), *found])

    def run(self, chunk: Chunk, rows: pa.Table) -> OutputFile:
        """Score the rows of a chunk, log them if asked to, and write their file."""
        where = "the offline store" if chunk.file < 0 else self.plan.files[chunk.file].path
        featured = self.scorer.features(rows, where)
        texts = self.keys.texts(rows, where)
        predictions = self.scorer.predictions(featured, texts)
        probabilities = predictions.column("probability").to_numpy()
        if self.plan.is_logged:
            self._log(chunk, featured, probabilities, texts)
        above = probabilities.astype(np.float64) >= self.plan.model.threshold
        bins = np.histogram(probabilities, BINS, range=(0.0, 1.0))[0]
        is_stored = self.plan.kind.is_stored
        return self.output.add(
            chunk.index,
            parquet(predictions),
            rows=len(featured.keys),
            checksum=key_checksum(featured.keys),
            without_features=int(np.isnat(featured.times).sum()) if is_stored else 0,
            positive=int(above.sum()),
            histogram=tuple(bins.tolist()),
        )

    def _log(
        self,
        chunk: Chunk,
        rows: FeatureMatrix,
        probabilities: Any,
        texts: Sequence[str] | None,
    ) -> None:
        computed = self.plan.kind is Kind.attributes
        write_batch(
            self.job.offline.postgres,
            self.plan.chunk_id(chunk),
            rows,
            probabilities,
            predicted_at_us=microseconds_of(self.plan.scored_at),
            flags=Flags.REQUEST_ATTRIBUTES if computed else Flags.NONE,
            context=self._context,
            units=texts,
        )

    @property
    def _context(self) -> Context:
        """What the receipts of the run have in common."""
        model, engine = self.plan.model, self.scorer.scorer.engine
        library = "xgboost-cpu" if engine == "xgboost" else "onnxruntime"
        return Context(
            generation=model.generation,
            arm=ARM,
            propensity=1.0,
            scored=(ScoredArm(ARM, model.version, model.label),),
            experiment=None,
            engine=f"{engine} {version(library)}",
            fingerprint=model.fingerprint,
            threshold=model.threshold,
        )


def parquet(rows: pa.RecordBatch) -> pa.Buffer:
    """The rows as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [field.name for field in rows.schema if field.type == pa.string()]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([rows]), sink, compression="zstd", use_dictionary=texts)
    return sink.getvalue()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _featurizer(job: Job, artifact: ModelArtifact) -> Featurizer:
    schema, plan = artifact.feature_schema, job.plan
    if plan.kind is Kind.features:
        return partial(take_features, schema)
    if plan.kind is Kind.attributes:
        return EngineeredFeatures(schema, Engine(MODEL_VIEW.with_words(schema.words)))
    return lookup_of(job.offline, schema, plan.entity, plan.as_of, plan.scored_at, job.ttl)
