"""The Spark engine against the local one on the same cores, from features to predictions.

``spark`` includes its start, of the JVM and of its Python processes; ``features`` is the local
engine. People and options are those of `batch_inference`.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from benchmarks.batch_inference import make, measure, options_of
from benchmarks.harness.report import Report, is_quick
from pipelines.batch.errors import SparkUnavailable
from pipelines.batch.spark_engine import refuse_without_spark

ROWS, QUICK_ROWS = (10_000_000,), (200_000,)


def main() -> int:
    """Make people, and measure."""
    options = options_of(QUICK_ROWS if is_quick() else ROWS, __doc__)
    report = Report("batch_spark", packages=["pyarrow", "pyspark", "xgboost-cpu"])
    with nullcontext(options.data) if options.data else tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, options.rows)
        if options.make:
            return 0
        for rows in options.rows:
            measure(report, folder, rows, ["features", "spark"], rounds=1)
            report.target(f"spark_over_features_rate_of_{rows}", ">=", 0.5)
    return report.finish()


if __name__ == "__main__":
    try:
        refuse_without_spark()
    except SparkUnavailable as error:
        print(f"✗ {error}")
        sys.exit(1)
    sys.exit(main())
