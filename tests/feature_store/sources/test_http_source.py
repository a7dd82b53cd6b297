"""What is particular to APIs: trying again, waiting, turning pages, keeping the secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_store.errors import SourceError
from feature_store.sources.port import Position
from tests.worlds.sources import (
    SECRET,
    ApiWorld,
    break_off,
    hang,
    person,
    refuse,
    send,
)


@pytest.fixture
def api() -> Iterator[ApiWorld]:
    made = ApiWorld()
    made.add(*(person(key, minutes=key) for key in range(1, 6)))
    yield made
    made.close()


def keys(api: ApiWorld, after: Position | None = None) -> list[int]:
    return [int(key) for batch in api.source().read(after) for key in batch.columns["user_id"]]


def refusal(api: ApiWorld) -> str:
    with pytest.raises(SourceError) as caught:
        keys(api)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("fault", [refuse(429), refuse(503), hang, break_off])
def test_a_passing_fault_is_tried_again_and_no_row_comes_twice(api: ApiWorld, fault: Any) -> None:
    api.faults = [lambda _: None, fault, fault]
    assert keys(api) == [1, 2, 3, 4, 5]
    assert len(api.asked) == 3 + 2


def test_a_lasting_fault_is_one_line_after_the_last_try(api: ApiWorld) -> None:
    api.faults = [refuse(503)] * 10
    message = refusal(api)
    assert f"{api.url} failed 3 times, the last time with: 503 Service Unavailable" in message
    assert len(api.asked) == 3


def test_waits_grow_are_random_and_end_at_the_longest(api: ApiWorld) -> None:
    api.config = api.config.model_copy(update={"max_tries": 6, "max_wait_s": 2.0})
    api.faults = [refuse(500)] * 5
    keys(api)
    # Half of each backoff, since chance is 0.5 here; the first try of a page waits for nothing.
    assert api.waits[:6] == [0.0, 0.25, 0.5, 1.0, 1.0, 1.0]


def test_a_server_that_says_how_long_to_wait_is_waited_for(api: ApiWorld) -> None:
    api.config = api.config.model_copy(update={"max_wait_s": 9.0})
    api.faults = [refuse(429, Retry_After="3"), refuse(503, Retry_After="3600")]
    keys(api)
    assert api.waits[:3] == [0.0, 3.0, 9.0]


def test_a_refused_request_is_not_tried_again(api: ApiWorld) -> None:
    api.environment["PEOPLE_TOKEN"] = "wrong"
    assert "answered 401 Unauthorized. Check the address and" in refusal(api)
    assert len(api.asked) == 1


def test_a_secret_that_is_not_set_is_asked_for_by_the_name_of_its_variable(api: ApiWorld) -> None:
    api.environment.clear()
    assert "The variable PEOPLE_TOKEN is not set" in refusal(api)
    api.environment["PEOPLE_TOKEN"] = f"{SECRET}\nsecond line"
    assert "PEOPLE_TOKEN holds what no header may" in refusal(api)


def test_pages_are_turned_by_number_until_one_is_empty(api: ApiWorld) -> None:
    api.config = api.config.model_copy(update={"paging": "page", "page_param": "p"})

    def page(address: str) -> Any:
        start = (int(address.split("p=")[1].split("&", maxsplit=1)[0]) - 1) * 2
        return {"data": {"items": api.rows[start : start + 2]}}

    api.answer = page
    assert keys(api) == [1, 2, 3, 4, 5]
    assert len(api.asked) == 4


def test_pages_are_turned_by_a_link_in_the_answer_or_in_the_header(api: ApiWorld) -> None:
    update = {"paging": "link", "next_field": "next", "records": "items"}
    api.config = api.config.model_copy(update=update)
    api.answer = lambda address: {
        "items": api.rows[2:] if "rest" in address else api.rows[:2],
        "next": None if "rest" in address else "/people?rest=1",
    }
    assert keys(api) == [1, 2, 3, 4, 5]

    header = f'<{api.url}?rest=1>; rel="next"'
    api.faults = [lambda handler: send(handler, 200, {"items": api.rows[:2]}, Link=header)]
    assert keys(api) == [1, 2, 3, 4, 5]


def test_a_link_to_another_server_is_not_followed(api: ApiWorld) -> None:
    update = {"paging": "link", "next_field": "next", "records": "items"}
    api.config = api.config.model_copy(update=update)
    other = ApiWorld()
    api.answer = lambda _: {"items": api.rows[:1], "next": f"{other.url}?token=abc"}
    message = refusal(api)
    other.close()
    assert "goes on at another server" in message
    assert "token=abc" not in message
    assert other.asked == []


def test_pages_that_go_round_in_a_circle_end(api: ApiWorld) -> None:
    api.answer = lambda _: {"data": {"items": api.rows[:1], "next": 7}}
    assert "go round in a circle" in refusal(api)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"data": {"rows": []}}, "has no list of records at 'data.items' but NoneType"),
        ({"data": {"items": 3}}, "but int. Set 'records'"),
        ([1], "but NoneType"),
    ],
)
def test_an_answer_without_records_says_what_was_found(
    api: ApiWorld, answer: Any, expected: str
) -> None:
    api.answer = lambda _: answer
    assert expected in refusal(api)


def test_an_answer_that_is_no_json_is_one_line(api: ApiWorld) -> None:
    def html(handler: Any) -> None:
        handler.is_answered = True
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"<ht>")

    api.faults = [html]
    assert "did not answer with JSON but with text/html" in refusal(api)


def test_records_that_are_none_are_kept_apart_and_absent_fields_are_missing(api: ApiWorld) -> None:
    api.rows = [{"user_id": 1, "updated_at": "2026-01-05T12:00:00+00:00", "age": 7.5}]
    api.rows += [{"user_id": 2, "updated_at": "yesterday", "workclass": "half \ud800"}]
    api.answer = lambda _: {"data": {"items": ["text", *api.rows]}}
    [batch] = api.source().read()
    assert {place: broken.reason for place, broken in batch.broken.items()} == {
        0: "the record is a str, expected an object",
        2: "updated_at, the cursor, is 'yesterday', expected a time or number",
    }
    assert batch.row_numbers.tolist() == [1, 2, 3]
    assert batch.columns["age"].to_list() == [None, "7.5", None]
    assert batch.columns["workclass"].to_list() == [None, None, "half ?"]


def test_an_api_that_does_not_know_the_parameter_gives_no_old_rows(api: ApiWorld) -> None:
    api.answer = lambda _: {"data": {"items": api.rows}}
    reading = api.source().read()
    list(reading)
    api.add(person(9, minutes=60))
    assert keys(api, json.loads(json.dumps(reading.position))) == [1, 2, 3, 4, 5, 9][-6:]
    api.add(person(10, minutes=120))
    later = {"column": "updated_at", "value": "2026-01-05T13:00:00+00:00"}
    assert keys(api, later) == [9, 10]


def test_a_row_from_the_future_does_not_move_the_position(tmp_path: Path, api: ApiWorld) -> None:
    api.add(person(7, minutes=60 * 24 * 365 * 200))
    reading = api.source().read()
    assert [len(batch) for batch in reading] == [2, 2, 2]
    assert reading.position["value"] < "2100"


def test_a_position_of_another_column_is_refused(api: ApiWorld) -> None:
    with pytest.raises(SourceError, match="of the cursor column 'id', the settings name 'updated"):
        keys(api, {"column": "id", "value": 3})
