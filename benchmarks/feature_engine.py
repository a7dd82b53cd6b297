"""The feature engine on one core: one row, and a million.

Peers run the same feature functions in the two ways that are usual where training and serving
share their code: a frame of one row for a request, and a function a row for a table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness.report import Report, each, interleaved, is_quick, seconds
from benchmarks.harness.stage import raw_columns
from configs.settings import load_settings
from feature_store.definitions.engine import Engine
from feature_store.feature_definitions import MODEL_VIEW

ROWS = 1_000_000
ROWS_ONE_BY_ONE = 500


def one_row_frame(engine: Engine, raw: Mapping[str, Any]) -> np.ndarray:
    """Compute one row by way of a pandas frame with one row."""
    frame = pd.DataFrame([raw])
    columns = {
        feature.name: frame[feature.name].map(feature.encode).to_numpy(np.int64)
        if feature.kind == "category"
        else frame[feature.name].to_numpy(np.float32)
        for feature in engine.raw
    }
    values: np.ndarray = engine.table(columns)[0]
    return values


def main() -> int:
    """Measure one row (µs) and a million rows (s); and µs a row when rows come one by one."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = Report("feature_engine", packages=["numpy", "pandas"])
    engine, encoded = Engine(MODEL_VIEW), raw_columns(load_settings())
    many = {name: np.resize(column, ROWS) for name, column in encoded.items()}
    raw = {f.name: f.decode(encoded[f.name][0]) for f in engine.raw}
    frame = pd.DataFrame([raw] * ROWS_ONE_BY_ONE)
    assert np.array_equal(one_row_frame(engine, raw), engine.row(raw), equal_nan=True)

    rounds, repeats = (2, 200) if is_quick() else (7, 2000)
    one = {
        "ours": each(lambda: engine.row(raw), repeats),
        "pandas_frame": each(lambda: one_row_frame(engine, raw), repeats // 20),
    }
    report.add("one_row", "us", interleaved(one, rounds))
    in_bulk, row_by_row = (
        seconds(lambda: engine.table(many)),
        seconds(lambda: frame.apply(lambda row: engine.row(row.to_dict()), axis=1)),
    )
    bulk = {
        "ours": lambda: in_bulk() * 1e6 / ROWS,
        "pandas_apply": lambda: row_by_row() * 1e6 / ROWS_ONE_BY_ONE,
    }
    runs = interleaved(bulk, rounds)
    report.add("row_of_a_table", "us", runs)
    report.add("million_rows", "s", {"ours": runs["ours"]})
    report.ratio("pandas_frame", "ours", "one_row")
    report.ratio("pandas_apply", "ours", "row_of_a_table")
    report.target("ours_one_row", "<=", 100)
    report.target("ours_million_rows", "<=", 2.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
