"""Labels over HTTP: kept before they are acknowledged, shipped once, corrected by later rows."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.rows import dict_row

from feature_store.connect import offline_store
from feature_store.definitions.entity import Entity
from models.connect import postgres
from monitoring.log.labels import REPORTED
from monitoring.log.record import new_prediction_id, time_us_of
from serving.routes.feedback import feedback_schema, to_records
from tests.worlds.serving import running_api

AT = "2026-01-31T12:00:00Z"


def report(api, *labels: dict) -> None:
    answer = api.post("/feedback", json={"labels": list(labels)})
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"accepted": len(labels)}


def stored(world) -> list[dict]:
    query = "SELECT * FROM labels WHERE received_at IS NOT NULL ORDER BY created_timestamp"
    with postgres(world.settings)() as connection, connection.cursor(row_factory=dict_row) as rows:
        return rows.execute(query).fetchall()


def stored_of(world, value: object) -> list[int]:
    """The labels of one prediction or user, oldest first."""
    return [r["label"] for r in stored(world) if value in (r["user_id"], str(r["prediction_id"]))]


def until(is_so) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def new_id() -> str:
    return str(uuid.UUID(bytes=new_prediction_id(time.time_ns() // 1000)))


def test_labels_of_a_prediction_and_of_a_user_arrive_once(api, shared_world):
    answer = api.post("/predict", json={"user_id": 7}).json()
    prediction_id = answer["prediction_id"]
    labels = [
        {"prediction_id": prediction_id, "label": ">50K"},
        {"user_id": 9_001, "label_time": AT, "label": 0},
    ]
    before = datetime.now(UTC)
    for _ in range(3):  # whoever is not sure sends it again
        report(api, *labels)
    until(lambda: stored_of(shared_world, 9_001))
    report(api, *labels, {"user_id": 9_002, "label_time": AT, "label": 1})
    until(lambda: stored_of(shared_world, 9_002))

    of_prediction, of_user, _ = stored(shared_world)
    assert (str(of_prediction["prediction_id"]), of_prediction["user_id"]) == (prediction_id, None)
    assert of_prediction["label"] == 1
    predicted_at = datetime.fromisoformat(
        api.get(f"/predictions/{prediction_id}").json()["predicted_at"]
    )
    assert of_prediction["label_time"] == predicted_at
    assert (of_user["user_id"], of_user["label"]) == (9_001, 0)
    assert of_user["label_time"].astimezone(UTC) == datetime(2026, 1, 31, 12, tzinfo=UTC)
    for row in (of_prediction, of_user):
        assert before - timedelta(seconds=1) < row["received_at"] <= row["created_timestamp"]


def test_a_correction_is_a_later_row(api, shared_world):
    key = new_id()
    for label in (0, 1, 1, 0):  # also within one turn of the shipper
        report(api, {"prediction_id": key, "label": label})
    until(lambda: len(stored_of(shared_world, key)) == 3)
    report(api, {"prediction_id": key, "label": 1})
    until(lambda: len(stored_of(shared_world, key)) == 4)

    assert stored_of(shared_world, key) == [0, 1, 0, 1]


def test_a_label_of_a_prediction_that_nobody_knows_yet_is_kept(api, shared_world):
    key = new_id()
    report(api, {"prediction_id": key, "label": 1})
    until(lambda: stored_of(shared_world, key) == [1])

    [row] = [r for r in stored(shared_world) if str(r["prediction_id"]) == key]
    assert row["label_time"].timestamp() * 1e6 == pytest.approx(
        time_us_of(uuid.UUID(key).bytes), abs=1
    )


def test_reported_labels_of_users_are_trained_on_and_win_over_older_ones(api, shared_world):
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    report(api, {"user_id": 9_100, "label_time": AT, "label": 0})
    report(api, {"user_id": 9_100, "label_time": "2026-01-31T13:00:00+01:00", "label": 1})
    until(lambda: stored_of(shared_world, 9_100) == [0, 1])

    labels = offline_store(shared_world.settings).labels(at, at + timedelta(seconds=1))
    assert dict(zip(labels.keys.tolist(), labels.values.tolist(), strict=True))[9_100] == 1


def test_many_at_once(api, shared_world):
    labels = [{"user_id": n, "label_time": AT, "label": n % 2} for n in range(20_000, 30_000)]
    report(api, *labels)
    until(lambda: stored_of(shared_world, 29_999))

    found = {
        r["user_id"]: r["label"] for r in stored(shared_world) if (r["user_id"] or 0) >= 20_000
    }
    assert found == {n: n % 2 for n in range(20_000, 30_000)}
    too_many = api.post("/feedback", json={"labels": [*labels, labels[0]]})
    assert too_many.status_code == 422
    assert "at most 10000 rows" in too_many.json()["error"]


def test_one_label_needs_no_list_around_it(api, shared_world):
    answer = api.post("/feedback", json={"user_id": 9_200, "label_time": AT, "label": 1})

    assert answer.status_code == 202
    until(lambda: stored_of(shared_world, 9_200) == [1])


GOOD = {"user_id": 9_300, "label_time": AT, "label": 1}


@pytest.mark.parametrize(
    ("bad", "field", "expected"),
    [
        ({"label": 2}, "label", "expected 0, 1, '<=50K' or '>50K'"),
        ({"label": True}, "label", ""),
        ({"label": None}, "label", ""),
        ({"label": 1.0}, "label", ""),
        ({"user_id": -(2**63)}, "user_id", "greater than or equal to -9223372036854775807"),
        ({"user_id": "7"}, "user_id", "valid integer"),
        ({"label_time": None}, "", "expected 'label_time' with 'user_id'"),
        ({"label_time": "yesterday"}, "label_time", "a time with its zone"),
        ({"label_time": "2026-01-31T12:00:00"}, "label_time", "a time with its zone"),
        ({"label_time": "2999-01-31T12:00:00Z"}, "label_time", "a time that has come"),
        ({"label_time": "0001-01-01T00:00:00+14:00"}, "label_time", "a time from 1900"),
        ({"prediction_id": "12"}, "prediction_id", "a UUID of version 7"),
        ({"prediction_id": str(uuid.uuid4())}, "prediction_id", "a UUID of version 7"),
        ({"prediction_id": new_id()}, "", "expected either 'prediction_id', or 'user_id'"),
        ({"user_id": None}, "", "expected either 'prediction_id', or 'user_id'"),
        ({"lable": 1}, "lable", "did you mean 'label'?"),
    ],
)
def test_bad_labels_are_refused_by_place_and_nothing_is_kept(
    api, shared_world, bad, field, expected
):
    answer = api.post("/feedback", json={"labels": [GOOD, GOOD | bad]})

    assert answer.status_code == 422, answer.text
    problem = answer.json()["fields"][0]
    assert problem["field"].startswith(f"labels.1{f'.{field}' if field else ''}")
    assert expected in problem["expected"]
    assert stored_of(shared_world, 9_300) == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"labels": []}', b'{"labels": 1}', b"\xff"]
)
def test_what_holds_no_labels_is_refused(api, content):
    answer = api.post("/feedback", content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert answer.json()["fields"]


def test_bodies_of_other_types_and_sizes_are_refused(api):
    assert api.post("/feedback", data={"label": 1}).status_code == 415
    assert api.post("/feedback", json={"labels": ["x" * 17_000_000]}).status_code == 413
    assert api.get("/feedback").status_code == 405


def test_an_acknowledged_label_survives_a_killed_server(world):
    with running_api(world, FTI_MONITORING__PREDICTION_LOG__SHIP_INTERVAL_MS="3600000") as api:
        time.sleep(0.3)  # the one shipping at the start is over
        report(api, GOOD)
        api.process.kill()
    with running_api(world):
        until(lambda: stored_of(world, 9_300) == [1])


def test_without_room_labels_are_not_acknowledged(world):
    with running_api(world, limit_file_bytes=1_000_000) as api:
        answer = api.post("/feedback", json=GOOD)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "The prediction log cannot be written" in answer.json()["error"]


def test_a_key_may_be_called_as_what_models_of_pydantic_have():
    label = {"copy": 7, "label_time": AT, "label": "no"}
    body = feedback_schema(Entity("copy"), ("no", "yes")).model_validate({"labels": [label]})
    [record] = to_records(body.labels, Entity("copy"), datetime.now(UTC), REPORTED, None)
    assert (record.user_id, record.label) == (7, 0)
