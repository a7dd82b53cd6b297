"""When a retraining is asked for, when it is withheld, and what is recorded."""

from datetime import UTC, datetime, timedelta

import pytest

from configs.monitoring_config import RetrainingConfig
from models.connect import postgres
from monitoring.log.labels import adopt_labels
from monitoring.retraining_requests import RetrainingRequest, RetrainingStore, Withheld

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONFIG = RetrainingConfig(cooldown_hours=24, weekly_budget=2, window_days=30)


@pytest.fixture
def store(own_settings):
    return RetrainingStore(postgres(own_settings), "income-predictor")


def ask(store, now=NOW, config=CONFIG, alerts=("low_accuracy",)):
    return store.request(config, "accuracy is low", alerts, "income-xgb-v1", now)


def test_a_request_fixes_what_is_learned_from(store):
    request = ask(store)
    assert isinstance(request, RetrainingRequest)
    assert (request.data_start, request.data_end) == (NOW - timedelta(days=30), NOW)
    assert (request.status, request.champion) == ("requested", "income-xgb-v1")
    [step] = store.steps()
    assert (step.request_id, step.step, step.detail) == (1, "requested", "accuracy is low")


def test_there_is_one_open_request_at_a_time(store):
    ask(store)
    again = ask(store, NOW + 48 * HOUR)
    assert again == Withheld("request 1 is open (requested)")


@pytest.mark.parametrize(("hours", "is_given"), [(23, False), (24, True)])
def test_the_next_one_waits_for_the_cooldown(store, hours, is_given):
    store.move(ask(store), "refused", "not better", NOW)
    assert isinstance(ask(store, NOW + hours * HOUR), RetrainingRequest) == is_given


def test_a_week_has_a_budget(store):
    for day in (0, 2):
        store.move(ask(store, NOW + day * 24 * HOUR), "refused", "not better", NOW)
    withheld = ask(store, NOW + 4 * 24 * HOUR)
    assert withheld == Withheld("2 in seven days are as many as the budget allows")
    assert isinstance(ask(store, NOW + 7 * 24 * HOUR), RetrainingRequest)


def test_a_person_waits_for_no_cooldown_but_for_an_open_request(store):
    store.move(ask(store), "refused", "not better", NOW)
    by_hand = ask(store, NOW + HOUR, alerts=())
    assert isinstance(by_hand, RetrainingRequest)
    assert isinstance(ask(store, NOW + HOUR, alerts=()), Withheld)


def test_what_is_withheld_is_recorded_once_for_each_reason(store):
    ask(store)
    for minutes in range(5):
        ask(store, NOW + timedelta(minutes=minutes))
    assert [step.step for step in store.steps()] == ["requested", "withheld"]


def test_retraining_can_be_switched_off(store):
    withheld = ask(store, config=RetrainingConfig(enabled=False))
    assert isinstance(withheld, Withheld)


def test_models_have_requests_of_their_own(store, own_settings):
    ask(store)
    other = RetrainingStore(postgres(own_settings), "another-predictor")
    assert isinstance(ask(other), RetrainingRequest)
    assert [each.model_name for each in store.requests()] == ["income-predictor"]


def test_only_one_process_acts(store, own_settings):
    other = RetrainingStore(postgres(own_settings), "income-predictor")
    with store.alone() as first, other.alone() as second:
        assert (first, second) == (True, False)
    with other.alone() as is_alone:
        assert is_alone


def test_labels_of_predictions_become_labels_of_users_once(watching):
    watching.simulation(visits_a_day=120, label_delay_hours=1).play(0)
    with postgres(watching.settings)() as connection:
        [[known]] = connection.execute("SELECT count(*) FROM labels").fetchall()
        assert adopt_labels(connection) == known > 100
        assert adopt_labels(connection) == 0
        query = (
            "SELECT count(*) FROM labels u JOIN predictions p ON p.user_id = u.user_id "
            "AND p.predicted_at = u.label_time JOIN labels l ON l.prediction_id = p.prediction_id "
            "WHERE u.prediction_id IS NULL AND u.label = l.label"
        )
        assert connection.execute(query).fetchall() == [(known,)]
        connection.execute("UPDATE predictions SET flags = '{request_attributes}'")
        connection.execute("DELETE FROM labels WHERE prediction_id IS NULL")
        assert adopt_labels(connection) == 0
