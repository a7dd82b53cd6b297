"""The form of events: what is one, and why something is none."""

from __future__ import annotations

from typing import Any

import pytest

from feature_store.errors import InvalidEvent
from feature_store.offline.events import ActivityEvent
from feature_store.stream.events import fields_of, fields_of_json
from tests.worlds.streams import NOON, PARSER, as_bytes, change, purchase


@pytest.mark.parametrize(
    "event", [change(), purchase(), ActivityEvent("v", -1, NOON, "view", None)]
)
def test_an_event_comes_out_of_its_fields_as_it_went_in(event: Any) -> None:
    assert PARSER.parse(as_bytes(fields_of(event))) == event


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("kind", "profil", "kind is 'profil', did you mean 'profile'"),
        ("kind", None, "kind is missing, expected one of profile, activity"),
        ("event_id", None, "event_id is missing, expected 1 to 200 printable characters"),
        ("event_id", "a\0b", "event_id is 'a\0b', expected 1 to 200 printable"),
        ("user_id", "7.5", "user_id is '7.5', expected a whole number"),
        ("user_id", "1_000", "user_id is '1_000', expected a whole number"),
        ("user_id", str(2**63), f"user_id is '{2**63}', expected at most"),
        ("event_timestamp", "noon", "event_timestamp is 'noon', expected ISO 8601"),
        ("event_timestamp", "0001-01-01T00:00+14:00", "expected ISO 8601"),
        ("attributes", "{", "attributes is '{', expected a JSON object"),
        ("attributes", "[" * 100_000, "expected a JSON object"),
        ("attributes", "{}", "attributes is '{}', expected a JSON object with an attribute"),
        ("attributes", '{"agee": 3}', "no attribute 'agee', did you mean 'age'?"),
        ("attributes", '{"age": -3}', "age is '-3', expected 0 to 120 years"),
        ("attributes", '{"age": 36.5}', "age is '36.5', expected a whole number"),
        ("attributes", '{"age": "36"}', "age is '36', .* as a number"),
        ("attributes", '{"age": true}', "age is 'True', .* as a number"),
        ("attributes", '{"age": NaN}', "NaN is no number"),
        ("attributes", '{"age": 1e999}', "age is 'inf', expected 0 to 120"),
        ("attributes", '{"sex": 3}', "sex is '3', expected a word, or null"),
        ("attributes", '{"sex": "\\u0000"}', "expected a word, or null"),
        ("attributes", '{"sex": "\\ud800"}', "expected a word, or null"),
        ("event_typ", "view", "a profile event has no field 'event_typ', did you mean 'event_id'"),
    ],
)
def test_what_is_no_event_is_refused_with_what_arrived_and_what_was_expected(
    field: str, value: str | None, reason: str
) -> None:
    fields = as_bytes(fields_of(change()))
    fields.pop(field.encode(), None)
    if value is not None:
        fields[field.encode()] = value.encode()
    with pytest.raises(InvalidEvent, match=reason):
        PARSER.parse(fields)


def test_words_nobody_defined_and_missing_values_are_no_mistake() -> None:
    event = change(sex="never seen before", age=None)
    assert PARSER.parse(as_bytes(fields_of(event))) == event


def test_a_time_without_a_zone_is_utc() -> None:
    fields = as_bytes(fields_of(change())) | {b"event_timestamp": b"2026-01-05T12:00:00"}
    assert PARSER.parse(fields).time == NOON


def test_a_line_of_json_becomes_the_same_fields() -> None:
    line = (
        '{"kind": "activity", "event_id": "p1", "user_id": 7, "event_type": "purchase", '
        '"event_timestamp": "2026-01-05T12:00:00+00:00", "amount_cents": 1250}'
    )
    assert PARSER.parse(as_bytes(fields_of_json(line))) == purchase()
    with pytest.raises(InvalidEvent, match="is no JSON object; expected one event a line"):
        fields_of_json("[1]")
