"""``POST /predict/batch``: what one request at a time would be answered, for many at once."""

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from configs.settings import ROOT
from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.artifacts import scorer
from tests.worlds.rows import ENGINE, first_rows
from tests.worlds.serving import running_api

FIVE = {"age": 35, "workclass": "Private", "education": "Bachelors", "hours-per-week": 40}


def batch(api, rows: list[dict]) -> list[dict]:
    answer = api.post("/predict/batch", json={"rows": rows}, timeout=60)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["answered"] + found["failed"] == len(rows) == len(found["predictions"])
    return found["predictions"]


def one(api, row: dict) -> dict:
    return api.post("/predict", json=row).json()


def same(answer: dict) -> dict:
    return {n: v for n, v in answer.items() if n not in {"prediction_id", "latency_ms"}}


ROWS = [
    {"user_id": 7},
    FIVE,
    {"user_id": 8, "age": 36},
    {"user_id": 8, "education": None, "sex": "?"},
    FIVE | {"unit_id": "household-9"},
    {"age": 17},
    {"user_id": 999_998, "age": 17},
    {"workclass": "Astronaut", "age": " ?"},
    *({"user_id": user} for user in range(1, 301)),
]


def test_each_row_is_answered_to_the_bit_as_it_is_alone(api):
    answers = batch(api, ROWS)

    assert [same(answer) for answer in answers] == [same(one(api, row)) for row in ROWS]
    assert len({answer["prediction_id"] for answer in answers}) == len(ROWS)


def test_the_lines_of_the_raw_file_have_the_answers_of_the_stored_rows(api):
    numbers = {f.name for f in MODEL_VIEW.raw_features if f.kind != "category"}
    names = [feature.name for feature in MODEL_VIEW.raw_features]
    with gzip.open(ROOT / "data" / "raw" / "adult.data.gz", "rt") as opened:
        lines = [opened.readline().split(",") for _ in range(500)]
    rows = [dict(zip(names, line, strict=False)) for line in lines]
    rows = [{n: int(v) if n in numbers else v for n, v in row.items()} for row in rows]
    assert sum(row["occupation"] == " ?" for row in rows) > 10

    answers = batch(api, rows)

    stored = scorer(1).predict(first_rows(500).features.values).astype(float).tolist()
    assert [answer["probability"] for answer in answers] == stored
    assert {"occupation"} <= {name for answer in answers for name in answer["missing"]}
    assert all(answer["unseen"] == [] for answer in answers)


def test_a_user_that_is_not_known_is_said_in_its_row(api):
    first, unknown, last = batch(api, [{"user_id": 1}, {"user_id": 999_999}, {"user_id": 2}])

    assert unknown == {
        "error": "The online store has no features for user_id 999999. Send its attributes, or "
        "write its features: python pipelines/feature_pipeline.py"
    }
    assert same(first) == same(one(api, {"user_id": 1}))
    assert same(last) == same(one(api, {"user_id": 2}))


def test_every_row_has_a_receipt_that_is_replayed_to_the_bit(api, shared_world):
    answers = batch(api, ROWS)
    for answer in answers[:10]:
        receipt = api.get(f"/predictions/{answer['prediction_id']}").json()
        assert receipt["probability"] == answer["probability"]
        assert api.post(f"/predictions/{answer['prediction_id']}/replay").json()["equal"] is True

    ids = {answer["prediction_id"] for answer in answers}
    deadline = time.monotonic() + 20
    while not ids <= {str(row["prediction_id"]) for row in shared_world.stored_predictions()}:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ten_thousand_rows_are_answered_in_order(api, shared_world):
    rows = [{"user_id": 1 + n % 300} for n in range(10_000)]
    answers = batch(api, rows)

    expected = scorer(1).predict(shared_world.matrix.values).astype(float).tolist()
    assert [a["probability"] for a in answers] == [expected[n % 300] for n in range(10_000)]
    too_many = api.post("/predict/batch", json={"rows": [*rows, rows[0]]})
    assert too_many.status_code == 422
    assert "expected at most 10000 rows" in too_many.json()["error"]


def test_an_ab_test_gives_rows_the_arm_that_they_have_alone(world):
    world.deploy(1)
    world.start_ab_test(2, share=0.4)
    with running_api(world) as api:
        rows = [{"user_id": user} for user in range(1, 101)]
        rows += [FIVE | {"unit_id": str(unit)} for unit in range(50)]
        answers = batch(api, rows)

        assert {answer["arm"] for answer in answers} == {"champion", "challenger"}
        assert [same(answer) for answer in answers] == [same(one(api, row)) for row in rows]


@pytest.mark.parametrize(
    ("bad", "field", "expected"),
    [
        ({"age": 300}, "rows.1.age", "less than or equal to 120"),
        ({"agee": 30, "user_id": 1}, "rows.1.agee", "did you mean 'age'?"),
        ({"user_id": "1"}, "rows.1.user_id", "valid integer"),
        ({"age": True}, "rows.1.age", "valid integer"),
        ({"workclass": "\ud800"}, "rows.1.workclass", ""),
        ({}, "rows.1", "'user_id' or at least one of"),
        ([], "rows.1", ""),
        (None, "rows.1", ""),
    ],
)
def test_a_row_that_cannot_be_read_refuses_the_request_by_place(api, bad, field, expected):
    import json

    content = json.dumps({"rows": [{"user_id": 1}, bad]})
    headers = {"Content-Type": "application/json"}
    answer = api.post("/predict/batch", content=content, headers=headers)

    assert answer.status_code == 422, answer.text
    problem = answer.json()["fields"][0]
    assert problem["field"] == field
    assert expected in problem["expected"]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b'{"rows": []}', b'{"rows": 1}', b"\xff", b'{"rows": [{"age": NaN}]}'),
        *(b'{"rows": [{"user_id": 1}]', b'{"rows": [{"user_id": 1}], "more": 1}'),
        *(b'{"rows": [{"user_id": 1} {"user_id": 2}]}', b'{"rows": [' + b"[" * 100_000),
        b'{"rows": [{"user_id": ' + b"1" * 5_000 + b"}]}",
    ],
)
def test_what_holds_no_rows_is_refused(api, content):
    headers = {"Content-Type": "application/json"}
    answer = api.post("/predict/batch", content=content, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["fields"]


def test_redis_gone_rows_are_degraded_and_none_fails(world):
    world.deploy(1)
    with running_api(world, REDIS_URL="redis://127.0.0.1:1") as api:
        answers = batch(api, [{"user_id": 1 + n % 300} for n in range(1_000)])

    nothing = float(scorer(1).predict(ENGINE.row({})[np.newaxis, :])[0])
    assert {answer["probability"] for answer in answers} == {nothing}
    assert all(answer["degraded_reasons"] == ["features_unavailable"] for answer in answers)


def test_without_room_for_receipts_no_row_is_answered(world):
    world.deploy(1)
    with running_api(world, limit_file_bytes=1_000_000) as api:
        answer = api.post("/predict/batch", json={"rows": [{"user_id": 1}]})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_small_batches_wait_their_turn_and_none_is_refused(api):
    rows = [{"user_id": 1}, {"user_id": 2}]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: batch(api, rows), range(160)))

    assert {len(answer) for answer in answers} == {2}


def test_batches_that_find_no_room_in_time_are_told_to_come_again(world):
    world.deploy(1)
    rows = [FIVE | {"age": 20 + n % 50} for n in range(10_000)]
    settings = {
        "FTI_DEPLOYMENT__API__AT_ONCE__WAIT_S": "0.01",
        "FTI_DEPLOYMENT__API__AT_ONCE__BATCH_ROWS": "10000",
    }
    with running_api(world, **settings) as api, ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda _: api.post("/predict/batch", json={"rows": rows}, timeout=60), range(4)
            )
        )
        assert api.post("/predict/batch", json={"rows": rows}, timeout=60).status_code == 200

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert {a.headers["retry-after"] for a in answers if a.status_code == 503} == {"1"}
    told = next(a.json()["error"] for a in answers if a.status_code == 503)
    assert told.startswith("As many batches are being answered as may be at once, and there was no")


def test_single_requests_go_on_while_batches_are_answered(api):
    rows = [FIVE | {"age": 20 + n % 50} for n in range(10_000)]
    done = threading.Event()
    alone = []

    def ask() -> None:
        while not done.is_set():
            alone.append(api.post("/predict", json={"user_id": 5}).status_code)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        batch(api, rows)
        done.set()
        asking.result()

    assert set(alone) == {200}
    assert len(alone) > 20  # while one batch was answered
