"""Receipts of batch predictions: straight into PostgreSQL, a chunk at a time, each exactly once.

A batch keeps its plan and its chunks, so it needs no segment files: whatever dies, the chunk is
done again. One transaction marks a chunk in ``shipped_segments`` and copies its receipts; a chunk
that is marked already, by an attempt that died later or that still runs, is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.postgres import Postgres
from monitoring.log.record import Context, Flags, PredictionRecord, new_prediction_ids
from monitoring.log.table import copy_predictions

COPIED_TOGETHER = 4_096
"""Receipts that are in memory at once: some 3 MB."""
MARK = (
    "INSERT INTO shipped_segments (segment, shipped_bytes) VALUES (%s, %s) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True)
class Scored:
    """Rows that were scored together.

    Parameters
    ----------
    keys, probabilities
        int64 and float32 ``(n,)``.
    vectors
        float32 ``(n, p)``, exactly as they were scored.
    event_times
        datetime64[us] ``(n,)`` of the stored features; NaT where there were none.
    predicted_at_us
        Microseconds since 1970 in UTC.
    flags
        Of all of them.
    """

    keys: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    vectors: NDArray[np.float32]
    event_times: NDArray[np.datetime64]
    predicted_at_us: int
    flags: Flags

    def __len__(self) -> int:
        return len(self.keys)


class BatchLog:
    """Writes receipts of batches.

    Parameters
    ----------
    postgres
        Opens connections, one for each transaction.
    """

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def write(self, chunk: str, scored: Scored, context: Context) -> int:
        """Store the receipts of a chunk unless they are; return how many were stored.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away; none has been stored then.
        """
        with self.postgres.transaction() as connection:
            if connection.execute(MARK, (chunk, scored.vectors.nbytes)).rowcount == 0:
                return 0
            for start in range(0, len(scored), COPIED_TOGETHER):
                part = slice(start, start + COPIED_TOGETHER)
                copy_predictions(connection, _records(scored, part, context))
        return len(scored)


def _records(scored: Scored, part: slice, context: Context) -> Sequence[PredictionRecord]:
    keys = scored.keys[part].tolist()
    known = ~np.isnat(scored.event_times[part])
    times = scored.event_times[part].astype(np.int64).tolist()
    ids = new_prediction_ids(scored.predicted_at_us, len(keys))
    return [
        PredictionRecord(
            prediction_id=prediction_id,
            predicted_at_us=scored.predicted_at_us,
            user_id=key,
            unit=str(key),
            event_time_us=time if is_known else None,
            vector=vector,
            outputs=(probability,),
            flags=scored.flags,
            context=context,
        )
        for prediction_id, key, time, is_known, vector, probability in zip(
            ids,
            keys,
            times,
            known.tolist(),
            scored.vectors[part],
            scored.probabilities[part].tolist(),
            strict=True,
        )
    ]
