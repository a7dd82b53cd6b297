"""Drift: sizes that others compute too, thresholds that hold, agreement with Evidently."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from configs.monitoring_config import DriftConfig
from models.artifact.profile import Profile, ReferenceProfile, numbers, reference_profile
from monitoring.checks import distances
from monitoring.checks.drift import DriftReport, compare
from monitoring.checks.results import Skipped
from monitoring.feature_drift import frame_profiles
from monitoring.reporting import evidently_report

NO_LABELS = [np.zeros(0, dtype=np.int8)]


def reference_of(rows, n=6_000, importance=None) -> ReferenceProfile:
    features = rows.features
    scores = np.linspace(0, 1, 500, dtype=np.float32)
    return reference_profile(
        features.values[:n], features.schema, scores, NO_LABELS, importance or {}
    )


def shifted(rows, start=6_000, end=12_000, **columns) -> np.ndarray:
    values = rows.features.values[start:end].copy()
    for name, change in columns.items():
        place = rows.features.schema.position(name)
        values[:, place] = change(values[:, place])
    return values


@pytest.fixture
def samples():
    random = np.random.default_rng(5)
    return random.normal(0, 2, 4_000), random.normal(0.4, 2.5, 3_000)


def test_numbers_are_as_far_apart_as_scipy_says(samples):
    before, now = samples
    reference = numbers("x", before)
    current = reference.counted(now)
    exact = stats.ks_2samp(before, now).statistic
    assert distances.kolmogorov_smirnov(reference, current) == pytest.approx(exact, abs=0.01)
    exact = stats.wasserstein_distance(before, now) / before.std()
    assert distances.wasserstein(reference, current) == pytest.approx(exact, rel=0.03)


def test_whole_numbers_are_measured_exactly():
    random = np.random.default_rng(6)
    before = random.integers(0, 40, 5_000).astype(float)
    now = np.minimum(random.integers(0, 40, 4_000) + random.integers(0, 4, 4_000), 39).astype(float)
    reference = numbers("x", before)
    current = reference.counted(now)
    exact = stats.ks_2samp(before, now)
    assert distances.kolmogorov_smirnov(reference, current) == pytest.approx(exact.statistic)
    exact = stats.wasserstein_distance(before, now) / before.std()
    assert distances.wasserstein(reference, current) == pytest.approx(exact)


def test_the_chance_of_categories_is_that_of_scipy():
    before, now = np.array([400, 300, 200, 100]), np.array([90, 80, 20, 30])
    expected = stats.chi2_contingency(np.array([before, now]), correction=False).pvalue
    assert distances.chi_square(before, now) == pytest.approx(expected)


def test_false_discoveries_are_adjusted_as_scipy_adjusts_them():
    chances = np.random.default_rng(1).random(30) ** 3
    expected = stats.false_discovery_control(chances)
    assert distances.false_discoveries(chances) == pytest.approx(expected)


def test_the_index_of_samples_from_one_source_is_about_nothing(rows):
    reference = Profile.of(rows.features.values[:6_000], rows.features.schema)
    current = reference.counted(rows.features.values[6_000:7_000])
    found = [distances.psi(*pair) for pair in zip(reference.columns, current.columns, strict=True)]
    assert max(found) < 0.03


def test_features_that_moved_are_named_with_what_moved(rows):
    values = shifted(
        rows,
        age=lambda column: column + 9,
        workclass=lambda column: np.where(np.arange(len(column)) % 20, column, 1),  # unseen
        occupation=lambda column: np.where(np.arange(len(column)) % 3, column, 0),  # missing
    )
    reference = reference_of(rows, importance={"age": 0.3, "workclass": 0.1})
    report = compare(reference, reference.features.counted(values))
    moved = {each.name: each.reasons for each in report.drifted}
    assert set(moved) == {"age", "workclass", "occupation"}
    assert moved["age"][0].startswith("PSI")
    assert moved["workclass"][0] == "5.0% unseen words"
    assert moved["occupation"][0].startswith("missing")
    assert report.weighted_share == pytest.approx(0.4)
    assert report.features[0].name == "age"  # the most important first
    assert "3 of 47 features drifted" in report.summary


def test_a_difference_that_is_sure_but_small_is_no_drift():
    random = np.random.default_rng(8)
    before, now = random.normal(0, 1, 400_000), random.normal(0.03, 1, 400_000)
    reference, current = frame_profiles(pd.DataFrame({"x": before}), pd.DataFrame({"x": now}))
    report = compare(reference, current)
    [feature] = report.features
    assert feature.chance < 1e-20
    assert not feature.has_drifted


def test_a_difference_that_is_large_by_luck_is_no_drift(rows):
    config, alarms = DriftConfig(min_rows=100), 0
    reference, random = reference_of(rows), np.random.default_rng(2)
    for _ in range(40):
        few = rows.features.values[6_000 + random.permutation(6_000)[:100]]
        alarms += len(compare(reference, reference.features.counted(few), config=config).drifted)
    assert alarms <= 2  # of 1,880 looks


def test_scores_that_moved_with_important_features_are_harmful(rows):
    reference = reference_of(rows, importance={"age": 0.5})
    now = reference.features.counted(shifted(rows, age=lambda column: column + 15))
    random = np.random.default_rng(0)
    same = reference.scores.counted(random.random(2_000).astype(np.float32))
    moved = reference.scores.counted((random.random(2_000) * 0.6).astype(np.float32))
    assert not compare(reference, now, same).is_harmful
    assert compare(reference, now, moved).is_harmful


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([1.0] * 300, [1.0] * 300),
        ([np.nan] * 300, [np.nan] * 300),
        ([None] * 300, ["a"] * 300),
        (["a", "b"] * 150, [None] * 300),
        ([1.0] * 300, [2.0] * 300),
        ([True, False] * 150, [True] * 300),
        ([np.nan, 1.0] * 150, [np.nan] * 300),
    ],
)
def test_columns_with_little_in_them_give_a_result(before, now):
    reference, current = frame_profiles(pd.DataFrame({"x": before}), pd.DataFrame({"x": now}))
    report = compare(reference, current)
    assert isinstance(report, DriftReport)
    [feature] = report.features
    assert np.isfinite([feature.psi, feature.wasserstein, feature.chance]).all()
    assert feature.has_drifted == (list(map(str, before)) != list(map(str, now)))


def test_an_empty_window_is_skipped_with_a_reason(rows):
    reference = reference_of(rows)
    skipped = compare(reference, reference.features.counted(rows.features.values[:0]))
    assert isinstance(skipped, Skipped)
    assert "0 rows are too few" in skipped.reason


@pytest.mark.parametrize("method", ["psi", "jensenshannon"])
def test_the_profile_and_evidently_name_the_same_features(rows, method):
    values = shifted(
        rows,
        age=lambda column: column + 8,
        hours_per_week=lambda column: column * 1.3,
        sex=lambda column: np.where(np.arange(len(column)) % 2, column, 3),
    )
    matrix = rows.features
    names = [f.name for f in matrix.schema.features if f.is_raw]
    places = [matrix.schema.position(name) for name in names]
    frames = [
        evidently_report.decode(matrix.rows(slice(0, 6_000)))[names],
        evidently_report.decode(
            type(matrix)(values, matrix.keys[6_000:], matrix.times[6_000:], matrix.schema)
        )[names],
    ]
    snapshot = evidently_report.run(*frames, 0.1, method)
    theirs = {
        each["config"]["column"]: float(each["value"])
        for each in snapshot.dict()["metrics"]
        if "ValueDrift" in each["metric_name"]
    }
    reference = Profile.of(matrix.values[:6_000], matrix.schema)
    current = reference.counted(values)
    measure = distances.psi if method == "psi" else distances.jensen_shannon
    ours = {
        names[i]: measure(reference.columns[place], current.columns[place])
        for i, place in enumerate(places)
    }
    assert {name for name in ours if ours[name] >= 0.1} == {
        name for name in theirs if theirs[name] >= 0.1
    }
    assert {"age", "hours_per_week", "sex"} <= {name for name in ours if ours[name] >= 0.1}
    ranked = [sorted(names, key=found.__getitem__)[-3:] for found in (ours, theirs)]
    assert set(ranked[0]) == set(ranked[1])
