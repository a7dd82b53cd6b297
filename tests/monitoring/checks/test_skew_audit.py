"""A clean run shows no skew to the bit; each injected kind is found and named."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from feature_store.connect import offline_store
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline_store import missing_vector
from monitoring.checks.skew_audit import COLUMNS, SkewAudit
from monitoring.log.reader import LogWindow, PredictionReader
from monitoring.log.record import Context, Flags, PredictionRecord, ScoredArm, new_prediction_id
from monitoring.log.table import copy_predictions

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEMA = MODEL_VIEW.schema


class Log:
    """Stored rows, and predictions about them that may be wrong in one way."""

    def __init__(self, settings, rows, n):
        self.offline = offline_store(settings)
        self.url = settings.database_url
        self.values, self.keys = rows.features.values[:n], rows.features.keys[:n]
        self.reader = PredictionReader(self.offline.postgres)
        self.store(self.values, NOW - 5 * HOUR, NOW - 4 * HOUR)

    def store(self, values, event, created, keys=None):
        keys = self.keys if keys is None else keys
        times = np.full(len(keys), np.datetime64(event.replace(tzinfo=None), "us"))
        self.offline.append(FeatureMatrix(values, keys, times, SCHEMA), "user_id", created)

    def predict(self, values, *, event=NOW - 5 * HOUR, flags=Flags.NONE, keys=None):
        at_us, event_us = (int(t.timestamp() * 1e6) for t in (NOW, event))
        arm = ScoredArm("champion", 1, "v1")
        context = Context(1, "champion", 1.0, (arm,), None, "onnx", SCHEMA.fingerprint, 0.5)
        records = [
            PredictionRecord(
                prediction_id=new_prediction_id(at_us),
                predicted_at_us=at_us,
                user_id=int(key),
                unit=str(key),
                event_time_us=event_us,
                vector=vector,
                outputs=(0.5,),
                flags=flags,
                context=context,
            )
            for key, vector in zip(self.keys if keys is None else keys, values, strict=True)
        ]
        with psycopg.connect(self.url) as connection:
            copy_predictions(connection, records)

    def audit(self, ttl=None):
        window = LogWindow(NOW - HOUR, NOW + HOUR)
        logged = self.reader.newest_vectors(window, SCHEMA.fingerprint, 100_000, COLUMNS)
        return SkewAudit(self.offline, Engine(MODEL_VIEW), ttl).audit(logged, SCHEMA)


@pytest.fixture
def log(own_settings, rows):
    return Log(own_settings, rows, 400)


def test_a_clean_run_of_ten_thousand_predictions_has_no_skew_to_the_bit(own_settings, rows):
    log = Log(own_settings, rows, 10_500)
    log.predict(log.values)
    report = log.audit()
    assert (report.n, report.mismatches, report.features) == (10_500, 0, ())
    assert "No skew" in report.summary


def test_a_user_nobody_knows_is_expected_to_be_all_missing(log):
    strangers = np.arange(900_000, 900_010)
    log.predict(np.tile(missing_vector(SCHEMA), (10, 1)), keys=strangers)
    report = log.audit()
    assert (report.n, report.mismatches) == (10, 0)


def test_a_newer_row_that_the_online_store_did_not_have_yet_is_late_data(log):
    newer = log.values.copy()
    newer[:, SCHEMA.position("age")] += 1
    log.store(newer, NOW - 2 * HOUR, NOW - HOUR)
    log.predict(log.values)  # the online store still served the row of before
    report = log.audit()
    assert report.causes == {"late data": 400}
    assert [each.name for each in report.features] == ["age"]


def test_a_correction_that_was_learned_later_is_late_data(log):
    corrected = log.values.copy()
    corrected[:, SCHEMA.position("fnlwgt")] += 1
    log.predict(corrected)  # the online store had it first
    log.store(corrected, NOW - 5 * HOUR, NOW + 2 * HOUR)
    report = log.audit()
    assert report.causes == {"late data": 400}


def test_a_row_older_than_its_ttl_that_was_used_is_named_so(log):
    log.predict(log.values)
    report = log.audit(ttl=2 * HOUR)
    assert report.causes == {"ttl": 400}


def test_a_row_within_its_ttl_that_was_left_out_is_named_so(log):
    absent = np.tile(missing_vector(SCHEMA), (400, 1))
    log.predict(absent, flags=Flags.FEATURES_STALE)
    report = log.audit(ttl=9 * HOUR)
    assert report.causes == {"ttl": 400}


def test_an_online_row_of_another_definition_is_a_skew_of_versions(log):
    absent = np.tile(missing_vector(SCHEMA), (400, 1))
    log.predict(absent, flags=Flags.FEATURES_OUTDATED)
    report = log.audit()
    assert report.causes == {"version": 400}


def test_a_feature_that_the_serving_code_computes_otherwise_is_a_skew_of_code(log):
    wrong = log.values.copy()
    derived = next(f.name for f in SCHEMA.features if f.inputs and f.kind == "number")
    place = SCHEMA.position(derived)
    wrong[:, place] = np.nextafter(wrong[:, place], np.float32(np.inf))  # the last bit
    log.predict(wrong)
    report = log.audit()
    assert report.causes == {"code": int((~np.isnan(wrong[:, place])).sum())}
    assert [each.name for each in report.features] == [derived]


def test_attributes_of_a_request_are_computed_again_by_this_code(log):
    wrong = log.values.copy()
    place = SCHEMA.position(next(f.name for f in SCHEMA.features if f.inputs))
    wrong[:7, place] += 1
    log.predict(wrong, flags=Flags.REQUEST_ATTRIBUTES)
    report = log.audit()
    assert (report.n, report.causes) == (400, {"code": 7})


def test_a_raw_value_that_no_row_explains_is_unexplained(log):
    engine, wrong = Engine(MODEL_VIEW), log.values.copy()
    for place in range(5):
        wrong[place] = engine.override(wrong[place], {"capital_loss": 77})
    log.predict(wrong)
    assert log.audit().causes == {"unexplained": 5}


def test_degraded_answers_are_left_out_and_counted(log):
    log.predict(np.tile(missing_vector(SCHEMA), (400, 1)), flags=Flags.FEATURES_UNAVAILABLE)
    report = log.audit()
    assert (report.n, report.left_out) == (0, {"degraded": 400})


def test_reports_add_up(log):
    log.predict(log.values)
    report = log.audit()
    both = report.merged(replace(report, mismatches=3, causes={"code": 3}))
    assert (both.n, both.mismatches, both.causes) == (800, 3, {"code": 3})
