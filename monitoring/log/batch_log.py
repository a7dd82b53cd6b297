"""Receipts of batch predictions: straight into PostgreSQL, a chunk at a time, each exactly once.

A batch keeps its plan and its chunks, so it needs no segment files: whatever dies, the chunk is
done again. One transaction marks a chunk in ``shipped_segments`` and copies its receipts; a chunk
that is marked already, by an attempt that died later or that still runs, is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.offline.postgres import Postgres
from monitoring.log.record import Context, Flags, PredictionRecord, new_prediction_ids
from monitoring.log.table import copy_predictions

COPIED_TOGETHER = 4_096
"""Receipts that are in memory at once: some 3 MB."""
MARK = (
    "INSERT INTO shipped_segments (segment, shipped_bytes) VALUES (%s, %s) ON CONFLICT DO NOTHING"
)


def write_batch(
    postgres: Postgres,
    chunk: str,
    rows: FeatureMatrix,
    probabilities: NDArray[np.float32],
    *,
    predicted_at_us: int,
    flags: Flags,
    context: Context,
    units: Sequence[str] | None = None,
) -> int:
    """Store the receipts of a chunk unless they are; return how many were stored.

    Parameters
    ----------
    rows
        Exactly as they were scored; their times are those of the stored features, NaT where there
        were none.
    probabilities
        ``(n,)``.
    predicted_at_us
        Microseconds since 1970 in UTC.
    flags
        Of all of them.
    units
        Each key as one text ``(n,)``, where it is no whole number.

    Raises
    ------
    StoreUnavailable
        If PostgreSQL cannot be reached or goes away; none has been stored then.
    """
    with postgres.transaction() as connection:
        if connection.execute(MARK, (chunk, rows.values.nbytes)).rowcount == 0:
            return 0
        for start in range(0, len(rows), COPIED_TOGETHER):
            part = slice(start, start + COPIED_TOGETHER)
            answers = probabilities[part].tolist()
            named = None if units is None else units[part]
            copy_predictions(
                connection,
                _records(rows.rows(part), answers, predicted_at_us, flags, context, named),
            )
    return len(rows)


def _records(
    rows: FeatureMatrix,
    probabilities: Sequence[float],
    predicted_at_us: int,
    flags: Flags,
    context: Context,
    units: Sequence[str] | None,
) -> Iterator[PredictionRecord]:
    keys = rows.keys.tolist()
    columns = (
        new_prediction_ids(predicted_at_us, len(rows)),
        keys,
        map(str, keys) if units is None else units,
        rows.times.astype(np.int64).tolist(),
        np.isnat(rows.times).tolist(),
        rows.values,
        probabilities,
    )
    for prediction_id, key, unit, time, has_none, vector, probability in zip(*columns, strict=True):
        yield PredictionRecord(
            prediction_id=prediction_id,
            predicted_at_us=predicted_at_us,
            user_id=key,
            unit=unit,
            event_time_us=None if has_none else time,
            vector=vector,
            outputs=(probability,),
            flags=flags,
            context=context,
        )
