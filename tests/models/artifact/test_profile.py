"""Histograms can be merged, stored, and give what the rows themselves give."""

import json

import numpy as np
import pytest

from feature_store.feature_definitions import MODEL_VIEW
from models.artifact.profile import Profile, ReferenceProfile, numbers, reference_profile


@pytest.fixture(scope="module")
def rows():
    from benchmarks.harness.stage import real_rows
    from configs.settings import load_settings

    return real_rows(load_settings(), 8_000)[0].values


def test_blocks_counted_apart_and_merged_are_the_whole(rows):
    profile = Profile.of(rows[:4000], MODEL_VIEW.schema)
    whole = profile.counted(rows)
    parts = [profile.counted(rows[start : start + 777]) for start in range(0, len(rows), 777)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merged(part)
    assert merged.n == len(rows)
    for one, two in zip(whole.columns, merged.columns, strict=True):
        assert one.counts.tolist() == two.counts.tolist()
        assert (one.missing, one.unseen, one.low, one.high) == (
            two.missing, two.unseen, two.low, two.high
        )  # fmt: skip
        assert one.mean == pytest.approx(two.mean, nan_ok=True)
        assert one.deviation == pytest.approx(two.deviation, nan_ok=True, abs=1e-9)


def test_every_value_is_counted_once_and_moments_are_those_of_the_rows(rows):
    for place, histogram in enumerate(Profile.of(rows, MODEL_VIEW.schema).columns):
        column = rows[:, place].astype(np.float64)
        if histogram.is_category:
            assert histogram.n == len(column)
            continue
        present = column[~np.isnan(column)]
        assert histogram.n == len(column)
        assert histogram.present == len(present)
        assert histogram.mean == pytest.approx(present.mean())
        assert histogram.deviation == pytest.approx(present.std(), abs=1e-6)


def test_a_value_that_fills_a_bin_has_it_alone():
    random = np.random.default_rng(3)
    column = np.concatenate([np.zeros(900), random.exponential(10, 1100)])
    histogram = numbers("capital_gain", column)
    assert 900 in histogram.counts.tolist()
    assert histogram.counts.max() == 900


@pytest.mark.parametrize(
    "column", [[], [np.nan, np.nan], [5.0], [5.0, 5.0, np.nan]], ids=["none", "nan", "one", "same"]
)
def test_a_column_with_little_in_it_has_a_histogram(column):
    histogram = numbers("x", np.array(column, dtype=np.float64))
    assert histogram.n == len(column)
    again = type(histogram).from_json(json.loads(json.dumps(histogram.to_json(), allow_nan=False)))
    assert again.counted(np.array([1.0, np.nan])).n == 2


def test_a_reference_comes_back_from_json_as_it_was(rows):
    scores, labels = np.linspace(0, 1, 500, dtype=np.float32), np.array([0, 1, 1], dtype=np.int8)
    profile = reference_profile(rows, MODEL_VIEW.schema, scores, [labels, labels], {"age": 1.0})
    stored = json.loads(json.dumps(profile.to_json(), allow_nan=False))
    again = ReferenceProfile.from_json(stored)
    assert again.to_json() == profile.to_json()
    assert (again.positives, again.labels) == (4, 6)
