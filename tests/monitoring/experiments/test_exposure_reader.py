"""Exposures as PostgreSQL gives them: whose, in which phase, with the label of their horizon."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import psycopg
import pytest

from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from monitoring.experiments.exposure_reader import ExposureReader, Phases
from monitoring.log.record import Flags
from tests.worlds.experiments import HOUR, PLAN, START, history, label, receipt, store

MINUTE = timedelta(minutes=1)


@pytest.fixture
def database(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def read(database_url):
    """Reads the exposures of a test whose history is given."""

    def read(records, slices=()):
        reader = ExposureReader(Postgres(database_url), MODEL_VIEW.schema)
        name = records[-1].experiment
        return reader.read(name, Phases.of(records, name), PLAN.label_horizon_s, slices)

    return read


def test_before_anything_was_logged_there_are_no_exposures(database, read):
    assert len(read(history(0.1))) == 0


def test_an_exposure_has_what_both_arms_said(database, read):
    records = history(0.5)
    store(
        database,
        receipt(records[-1], "1", START, True, (0.3, 0.4)),
        receipt(records[-1], "2", START + MINUTE, False, (0.7, float("nan"))),
    )

    found = read(records)

    assert found.at_us.tolist() == [
        round((START + after).timestamp() * 1e6) for after in (0 * MINUTE, MINUTE)
    ]
    assert found.is_challenger.tolist() == [True, False]
    np.testing.assert_array_equal(found.probability, [[0.3, 0.4], [0.7, np.nan]])
    assert found.threshold.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert np.isnan(found.label).all()


def test_only_units_that_had_a_chance_are_exposed(database, read):
    records, others = history(0.5), history(0.4)
    assert others[-1].experiment == records[-1].experiment
    store(
        database,
        receipt(records[-1], "1", START),
        receipt(records[-1], "session-9", START),
        receipt(records[-1], None, START),  # neither a user nor a caller's unit
        receipt(records[-1], "3", START, propensity=1.0),  # overruled
        receipt(records[0], "4", START),  # of no test
        receipt(records[-1], "5", START - HOUR),  # of an earlier test of the same name
    )

    found = read(records)

    assert len(found) == len(set(found.unit.tolist())) == 2


def test_the_same_unit_is_the_same_whoever_answers(database, read):
    records = history(0.1, 0.5)
    store(
        database,
        receipt(records[1], "1", START),
        receipt(records[2], "1", START + HOUR, is_challenger=True),
        receipt(records[2], "2", START + 2 * HOUR),
    )

    found = read(records)

    first, again, other = found.unit.tolist()
    assert first == again != other
    assert found.phase.tolist() == [0, 1, 1]


def test_a_label_counts_as_it_was_known_at_the_horizon(database, read):
    records = history(0.5)
    corrected, late, never = (receipt(records[-1], unit, START) for unit in "123")
    store(database, corrected, late, never)
    label(database, 0, START + 10 * MINUTE, of=corrected)
    label(database, 1, START + 50 * MINUTE, of=corrected)
    label(database, 0, START + 70 * MINUTE, of=corrected)  # too late to change anything
    label(database, 1, START + 61 * MINUTE, of=late)

    found = read(records)

    by_unit = dict(zip(found.unit.tolist(), found.label.tolist(), strict=True))
    values = sorted(by_unit.values(), key=str)
    assert values[0] == 1.0
    assert np.isnan(values[1:]).all()


def test_a_label_of_a_user_counts_for_predictions_before_it(database, read):
    records = history(0.5)
    store(database, receipt(records[-1], "7", START), receipt(records[-1], "7", START + HOUR))
    label(database, 0, START - HOUR, user=7, about=START - HOUR)  # what the model learned from
    label(database, 1, START + 20 * MINUTE, user=7, about=START + 5 * MINUTE)

    assert read(records).label[0] == 1
    assert np.isnan(read(records).label[1])


def test_flags_say_what_went_wrong(database, read):
    records = history(0.5)
    failed = Flags.CHALLENGER_FAILED | Flags.OVER_BUDGET
    store(
        database,
        receipt(records[-1], "1", START, flags=failed),
        receipt(records[-1], "2", START + MINUTE, flags=Flags.FEATURES_STALE),
        receipt(records[-1], "3", START + 2 * MINUTE, flags=Flags.REQUEST_ATTRIBUTES),
    )

    found = read(records)

    assert found.is_failed.tolist() == [True, False, False]
    # The champion answered in its place, and still it was the challenger's turn.
    assert found.is_challenger.tolist() == [True, False, False]
    assert found.is_over_budget.tolist() == [True, False, False]
    assert found.is_degraded.tolist() == [False, True, False]


def test_slices_are_read_from_the_logged_vectors(database, read):
    records = history(0.5)
    codes = {"1": 2, "2": 3, "3": 0}
    store(database, *(receipt(records[-1], unit, START, sex=sex) for unit, sex in codes.items()))

    assert sorted(read(records, ["sex"]).slices["sex"].tolist()) == [-2, 0, 1]


def test_phases_are_shares_not_deployments():
    from models.deployment.ab_tests import override, widen

    records = history(0.1)
    records.append(override(records[-1], "1", "challenger", START + HOUR))
    records.append(widen(records[-1], 0.5, START + 2 * HOUR))

    found = Phases.of(records, records[-1].experiment)

    assert found.shares == (0.1, 0.5)
    assert found.of_generation == {2: 0, 3: 0, 4: 1}
    assert (found.started_at, found.last_at) == (START, START + 2 * HOUR)
