"""Keys: read at every way in by one rule, each with one text and one identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from feature_store.definitions.entity import LONGEST_KEY, Entity, whole_number
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError, InvalidValue

USER = Entity("user_id")
PLANE = Entity("tail_number", key="string")
ROUTE = Entity("route", key=("origin", "destination"))
GATE = Entity("gate", key={"airport": "string", "number": "integer"})

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("entity", "value", "key"),
    [
        (USER, 7, 7),
        (USER, " 7 ", 7),
        (USER, "7.0", 7),
        (USER, 7.0, 7),
        (USER, np.int64(-7), -7),
        (USER, {"user_id": 7}, 7),
        (PLANE, " N14228\n", "N14228"),
        (ROUTE, ["JFK", "LAX"], ("JFK", "LAX")),
        (ROUTE, {"destination": "LAX", "origin": "JFK"}, ("JFK", "LAX")),
        (GATE, ("JFK", "12"), ("JFK", 12)),
    ],
)
def test_a_key_is_read_as_it_is_compared(entity, value, key):
    assert entity.read(value) == key


@pytest.mark.parametrize(
    ("entity", "value", "message"),
    [
        (USER, "N1", "user_id is 'N1', expected a whole number of at most 64 bits"),
        (USER, 7.5, "user_id is '7.5', expected a whole number"),
        (USER, 2**63, "expected a whole number of at most 64 bits"),
        (USER, 2.0**60, "expected a whole number"),
        (USER, True, "user_id is 'True', expected a whole number"),
        (USER, None, "user_id is missing, expected a whole number"),
        (PLANE, 14228, "tail_number is '14228', expected a text of 1 to 128 characters"),
        (PLANE, " ", "tail_number is ' ', expected a text"),
        (PLANE, "a\0b", "expected a text"),
        (PLANE, "a\tb", "expected a text"),
        (PLANE, "\ud800", r"tail_number is '\\ud800', expected a text"),
        (PLANE, "x" * 129, "expected a text of 1 to 128 characters"),
        (ROUTE, "JFK", "route is 'JFK', expected origin and destination"),
        (ROUTE, ["JFK"], "expected origin and destination"),
        (ROUTE, {"origin": "JFK", "goal": "LAX"}, "expected origin and destination"),
        (ROUTE, ["x" * 80, "y" * 80], "expected at most 128 characters"),
        (GATE, ["JFK", "B12"], "number is 'B12', expected a whole number"),
    ],
)
def test_what_is_no_key_is_refused_with_what_was_expected(entity, value, message):
    with pytest.raises(InvalidValue, match=message):
        entity.read(value)


@given(st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS))
@example(("a,b", "c"), ("a", "b,c"))
@example(('a","b', "c"), ("a", 'b","c'))
@example(("[1", "2]"), ("[1,2", "]"))
def test_two_keys_never_have_one_text(one, other):
    try:
        one, other = ROUTE.read(one), ROUTE.read(other)
    except InvalidValue:
        return

    assert (ROUTE.text(one) == ROUTE.text(other)) == (one == other)
    assert (ROUTE.identity(one) == ROUTE.identity(other)) == (one == other)
    assert ROUTE.parse(ROUTE.text(one)) == one


@given(st.lists(TEXTS | st.text('ab ,"\\', min_size=1, max_size=4), max_size=5))
@example(["N1", "n1"])
@example(["a" * 128])
def test_many_keys_are_read_as_each_alone_is(texts):
    for entity, keys in (
        (PLANE, texts),
        (ROUTE, list(zip(texts, reversed(texts), strict=True))),
        (GATE, [(text, n) for n, text in enumerate(texts)]),
        (USER, list(range(len(texts)))),
    ):
        try:
            alone = [entity.text(entity.read(key)) for key in keys]
        except InvalidValue:
            with pytest.raises(InvalidValue):
                entity.texts_of(keys)
            continue
        assert entity.texts_of(keys) == alone
        each = [entity.identity(entity.parse(text)) for text in alone]
        assert entity.identities(alone).tolist() == each


def test_a_person_may_write_several_parts_with_commas():
    assert ROUTE.parse("JFK,LAX") == ROUTE.parse('["JFK", "LAX"]') == ("JFK", "LAX")
    assert PLANE.parse("a,b") == "a,b"
    with pytest.raises(InvalidValue, match="expected origin and destination"):
        ROUTE.parse("JFK,LAX,SFO")
    with pytest.raises(InvalidValue, match="expected a JSON array of origin and destination"):
        ROUTE.parse('["JFK"')


def test_a_float_that_may_stand_for_another_whole_number_is_none():
    assert whole_number(2.0**53 - 1) == 2**53 - 1
    assert whole_number(2**53) == 2**53
    with pytest.raises(ValueError, match="9007199254740992"):
        whole_number(float(2**53 + 1))


def test_a_whole_number_is_its_own_identity_and_others_fit_into_64_bits():
    assert USER.identity(12345) == 12345
    identities = PLANE.identities(f"N{n}" for n in range(10_000))
    assert identities.dtype == np.int64
    assert len(np.unique(identities)) == 10_000
    assert (identities >= 0).all()
    assert PLANE.identity("N7") == identities[7]
    assert len("x" * LONGEST_KEY) == 128


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("number", "is a 'number'; expected 'integer', 'string', or the names of several columns"),
        (("origin",), "two columns or more"),
        ((), "two columns or more"),
        (("origin", "bad name"), "lower-case letters, digits and underscores"),
        ({"a": "string", "b": "float"}, "is a 'float'"),
    ],
)
def test_a_key_that_cannot_be_is_refused_where_it_is_defined(key, message):
    with pytest.raises(DefinitionError, match=message):
        Entity("route", key=key)


def view_of(entity):
    view = FeatureView("flights", entity)
    view.raw("distance", unit="km", description="Distance.")
    return view.schema


def test_the_fingerprint_tells_keys_apart_and_survives_the_store():
    whole, text = view_of("flight"), view_of(Entity("flight", key="string"))
    pair = view_of(Entity("flight", key=("carrier", "number")))
    typed = view_of(Entity("flight", key={"carrier": "string", "number": "integer"}))

    assert view_of(Entity("flight")).fingerprint == whole.fingerprint
    assert len({schema.fingerprint for schema in (whole, text, pair, typed)}) == 4
    for schema in (whole, text, pair, typed):
        again = FeatureSchema.from_meaning("flights", schema.meaning)
        assert again.fingerprint == schema.fingerprint
        assert again.key == schema.key
        assert schema.select(["distance"]).key == schema.key
