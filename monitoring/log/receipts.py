"""Finds receipts by id: in PostgreSQL, or while they are on their way in the segment files."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import StoreUnavailable
from feature_store.online.row_codec import moment_of
from infrastructure.work import WorkPool
from monitoring.errors import ReceiptsUnavailable
from monitoring.log.postgres_reader import PostgresReader
from monitoring.log.record import KIND_PREDICTION, PredictionRecord, ScoredArm, time_us_of
from monitoring.log.segments import find_record

CLOCKS_DIFFER_S = 60.0
"""An id may seem to be so much younger or older than the file that holds it."""
QUERY = "SELECT * FROM predictions WHERE prediction_id = %(prediction_id)s"


@dataclass(frozen=True)
class ScoredOutput(ScoredArm):
    """One arm whose model scored the vector, and what it answered; None for nothing usable."""

    probability: float | None = field(kw_only=True)


@dataclass(frozen=True)
class Receipt:
    """The receipt of a prediction, wherever it lay; see `PredictionRecord` for its parts.

    Parameters
    ----------
    stored_in
        Whether it has reached PostgreSQL, or still lies in a segment file.
    vector
        float32 ``(p,)``, exactly as it was scored.
    """

    prediction_id: str
    predicted_at: datetime
    user_id: int | None
    unit: str
    arm: str
    model_version: str
    probability: float
    decision: int
    scored: tuple[ScoredOutput, ...]
    experiment: str | None
    propensity: float
    generation: int
    engine: str
    flags: tuple[str, ...]
    feature_event_time: datetime | None
    schema_fingerprint: str
    caller: str | None
    stored_in: Literal["postgresql", "segment file"]
    vector: NDArray[np.float32] = field(repr=False, compare=False)

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Self:
        """Read a row of the table ``predictions``."""
        same = row.keys() & cls.__dataclass_fields__.keys()
        event_time = row["feature_event_time"]
        read = {
            "prediction_id": str(row["prediction_id"]),
            "predicted_at": row["predicted_at"].astimezone(UTC),
            "feature_event_time": event_time and event_time.astimezone(UTC),
            "scored": tuple(ScoredOutput(**each) for each in row["scored"]),
            "flags": tuple(row["flags"]),
            "vector": np.array(row["features"], dtype=np.float32),
        }
        return cls(**({name: row[name] for name in same} | read), stored_in="postgresql")

    @classmethod
    def of_record(cls, record: PredictionRecord) -> Self:
        """Read a record of a segment file."""
        context = record.context
        outputs = zip(context.scored, record.outputs, strict=True)
        return cls(
            prediction_id=record.uuid,
            predicted_at=moment_of(record.predicted_at_us),
            user_id=record.user_id,
            unit=record.unit,
            arm=context.arm,
            model_version=context.scored[context.answering].model_version,
            probability=record.probability,
            decision=record.decision,
            scored=tuple(
                ScoredOutput(**vars(arm), probability=p if isfinite(p) else None)
                for arm, p in outputs
            ),
            experiment=context.experiment,
            propensity=context.propensity,
            generation=context.generation,
            engine=context.engine,
            flags=tuple(record.flags.names),
            feature_event_time=(
                None if record.event_time_us is None else moment_of(record.event_time_us)
            ),
            schema_fingerprint=context.fingerprint,
            caller=context.caller,
            stored_in="segment file",
            vector=record.vector,
        )


class Receipts:
    """Finds receipts from the moment their answer has left.

    Parameters
    ----------
    table
        Reads PostgreSQL.
    folder
        The prediction log's, with the segments that have not been shipped.
    pool
        Where the segments are read.
    """

    def __init__(self, table: PostgresReader, folder: Path, pool: WorkPool) -> None:
        self.table = table
        self.folder = folder
        self.pool = pool

    async def find(self, prediction_id: UUID) -> Receipt | None:
        """Find a receipt; None when there is no such prediction.

        Raises
        ------
        ReceiptsUnavailable
            If it is in no segment file, and PostgreSQL does not answer.
        """
        after_s = time_us_of(prediction_id.bytes) / 1e6 - CLOCKS_DIFFER_S
        spooled = partial(find_record, self.folder, KIND_PREDICTION, prediction_id.bytes, after_s)
        problem = None
        for _ in range(2):  # it may be shipped, and its segment removed, between the two looks
            try:
                rows = await self.table.rows(QUERY, {"prediction_id": prediction_id})
                if rows:
                    return Receipt.of_row(rows[0])
            except StoreUnavailable as error:
                problem = error
            body = await self.pool.run(spooled)
            if body is not None:
                return Receipt.of_record(PredictionRecord.unpack(body))
        if problem is not None:
            raise ReceiptsUnavailable(
                f"Prediction {prediction_id} is in no segment file of this host, and {problem} "
                "Ask again when it does."
            ) from problem
        return None
