"""One subject of `batch_inference` in a process of its own: rows a second, and memory."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.harness.memory import measured
from configs.command_line import Stopwatch
from configs.settings import load_settings
from models.artifact.artifact import ModelArtifact, open_artifact
from models.bulk_scorer import BulkScorer
from pipelines.batch.execution import EngineName, execute_plan
from pipelines.batch.plan import DeployedModel
from pipelines.batch.request import BatchRequest, job_of, new_plan


def limit(artifact: ModelArtifact, data: Path, rows: int) -> dict[str, float]:
    """The bare call on a matrix in memory, on all cores."""
    matrix = _matrix(data / "features.parquet", artifact.features, rows)
    scorer = BulkScorer(artifact.path / "model.ubj")
    scorer.predict(matrix[:1000])
    _, figures = measured(lambda: scorer.predict(matrix))
    return {"rate": len(matrix) / figures["wall"], "peak": figures["peak"]}


def pipeline(
    artifact: ModelArtifact, data: Path, rows: int, engine: EngineName
) -> dict[str, float]:
    """From the input to the published output, as the command does it once a model is loaded."""
    settings, output = load_settings(), data.parent / f"out-{datetime.now(UTC):%H%M%S%f}"
    model = DeployedModel(
        "income-xgb-v1", 1, "", artifact.digest, 0, artifact.fingerprint, artifact.threshold
    )

    def work() -> int:
        now, request = datetime.now(UTC), BatchRequest((str(data),))
        job = job_of(new_plan(request, settings, model, artifact, now), str(output), settings)
        master = "local[2,4]" if engine is EngineName.spark else None
        totals = execute_plan(job, artifact, engine, Stopwatch(), workers=None, master=master)
        return totals.rows

    with contextlib.redirect_stdout(sys.stderr):
        done, figures = measured(work)
    assert done == rows, f"{done} rows were scored, not {rows}"
    return {"rate": rows / figures["wall"], "peak": figures["peak"]}


def _matrix(path: Path, names: tuple[str, ...], rows: int) -> NDArray[np.float32]:
    matrix = np.empty((rows, len(names)), dtype=np.float32)
    start = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=list(names)):
        part = matrix[start : start + len(batch)]
        for place, name in enumerate(names):
            part[:, place] = batch.column(name)[: len(part)].to_numpy(zero_copy_only=False)
        start += len(part)
    return matrix


def main() -> None:
    """Measure ``subject folder rows``; the figures are the last line."""
    subject, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    artifact, data = open_artifact(folder / "model"), folder / str(rows)
    if subject == "limit":
        figures = limit(artifact, data, rows)
    else:
        engine = EngineName.spark if subject == "spark" else EngineName.local
        kind = "attributes" if subject == "attributes" else "features"
        figures = pipeline(artifact, data / f"{kind}.parquet", rows, engine)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
