"""Columns as databases, Parquet and JSON give them, into numbers, codes, keys, times, labels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, strategies as st

from feature_store.definitions.cleaning import becomes_another
from feature_store.definitions.entity import Entity
from feature_store.definitions.schema import FeatureDefinition
from feature_store.definitions.validation import Reasons
from feature_store.errors import InvalidValue
from feature_store.ingest.parsing import (
    clean,
    parse_categories,
    parse_keys,
    parse_labels,
    parse_numbers,
    parse_times,
)

AGE = FeatureDefinition("age", "integer", "", valid_range=(0, 120))
WEIGHT = FeatureDefinition("weight", "number", "")
SEX = FeatureDefinition("sex", "category", "", categories=("Female", "Male", "1"))
CEST = timezone(timedelta(hours=2))


def column(*values: Any, dtype: Any = None) -> pl.Series:
    return clean(pl.Series("x", values, dtype=dtype), ["?"])


@pytest.mark.parametrize(
    "values",
    [
        column("39", None, " ? ", "", "7"),
        column(39, None, None, None, 7),
        column(39.0, float("nan"), None, None, 7.0),
        column(Decimal("39.0"), None, None, None, Decimal(7)),
    ],
)
def test_numbers_of_every_type_are_the_same_and_missing_is_nan(values: pl.Series) -> None:
    reasons: Reasons = {}
    parsed = parse_numbers(AGE, values, reasons)
    assert parsed.dtype == np.float32
    assert parsed.tolist() == pytest.approx([39, np.nan, np.nan, np.nan, 7], nan_ok=True)
    assert reasons == {}


def test_what_is_no_number_is_refused_as_it_was_written() -> None:
    reasons: Reasons = {}
    values = column("old", "nan", "1e400", "-3", "39.5", "0x10", "1,5")
    parse_numbers(AGE, values, reasons)
    assert reasons == {
        0: "age is 'old', expected a number",
        1: "age is 'nan', expected a number",
        2: "age is 1e400, expected 0 to 120",
        3: "age is -3, expected 0 to 120",
        4: "age is 39.5, expected a whole number",
        5: "age is '0x10', expected a number",
        6: "age is '1,5', expected a number",
    }
    reasons = {}
    parse_numbers(AGE, column(datetime(2026, 1, 5, tzinfo=UTC)), reasons)
    assert list(reasons) == [0]


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", "{:e}", "{:g}"]))
def test_a_text_is_the_number_that_python_reads_in_it(number: float, form: str) -> None:
    text = form.format(number)
    reasons: Reasons = {}
    parsed = parse_numbers(WEIGHT, column(text), reasons)
    with np.errstate(over="ignore"):
        expected = np.float64(float(text)).astype(np.float32)
    assert parsed[0] == expected
    assert bool(reasons) == (np.isinf(expected) or becomes_another(text))


def test_words_are_codes_and_unseen_ones_are_counted() -> None:
    codes, unseen = parse_categories(SEX, column("Male", None, "other", "Female", "other"))
    assert codes.tolist() == [3, 0, 1, 2, 1]
    assert unseen == {"other": 2}
    for typed in (column(1, None, 2), column(1.0, None, 2.0)):
        assert parse_categories(SEX, typed)[0].tolist() == [4, 0, 1]


RAW = st.text(st.sampled_from("Female mMALE?1n/a.0\u00a0\u2003\t\u0130\u212a"), max_size=8)


@given(st.lists(st.one_of(st.none(), RAW, st.sampled_from(["Male", "?", "N/A"])), min_size=1))
@example(["1E100", "-1e39", "3.4e38", "1e999", "nan"])
def test_a_column_is_read_as_its_values_one_by_one(values: list[str | None]) -> None:
    sex = replace(SEX, missing_marks=("?", "n/a"))
    parsed, _ = parse_categories(sex, clean(pl.Series("x", values, pl.String), sex.missing_marks))
    assert parsed.tolist() == [sex.encode(value) for value in values]

    weight, reasons = replace(WEIGHT, missing_marks=("?", "n/a", "-1")), Reasons()
    numbers = parse_numbers(
        weight, clean(pl.Series("x", values, pl.String), weight.missing_marks), reasons
    )
    for row, value in enumerate(values):
        if row in reasons:
            with pytest.raises(InvalidValue):
                weight.encode(value)
        else:
            assert np.array_equal(numbers[row], np.float32(weight.encode(value)), equal_nan=True)


def test_a_number_that_marks_a_missing_value_does_so_typed_too() -> None:
    height = replace(WEIGHT, missing_marks=("-999",))
    for values in (pl.Series([-999, 5]), pl.Series([-999.0, 5.0]), pl.Series(["-999", "5"])):
        parsed = parse_numbers(height, clean(values, height.missing_marks), {})
        assert np.isnan(parsed[0])
        assert parsed[1] == 5


def test_keys_are_whole_numbers_to_the_last_digit_and_never_missing() -> None:
    reasons: Reasons = {}
    largest = 2**63 - 1
    texts = column(str(largest), "1.5", None, "9" * 20, " 7 ", "8.0")
    keys = parse_keys(Entity("id"), [texts.alias("id")], reasons)
    assert keys.identities[[0, 4, 5]].tolist() == [largest, 7, 8]
    assert keys.texts is None
    expected = "expected a whole number of at most 64 bits"
    assert reasons == {
        1: f"id is '1.5', {expected}",
        2: f"id is missing, {expected}",
        3: f"id is '{'9' * 20}', {expected}",
    }
    for typed in (column(5.0, 5.5), column(2.0**60, 5.0), column(True, False)):
        reasons = {}
        keys = parse_keys(Entity("id"), [typed], reasons)
        refused = [0, 1] if typed.dtype == pl.Boolean else [int(keys.identities[0] == 5)]
        assert list(reasons) == refused


def test_a_key_of_texts_is_told_by_its_text_and_one_of_parts_by_all_of_them() -> None:
    plane = Entity("tail", key="string")
    reasons: Reasons = {}
    keys = parse_keys(plane, [column("N1", " N2 ", None, "x" * 200, "n1")], reasons)
    assert keys.texts is not None
    assert keys.texts.tolist() == ["N1", "N2", "", "", "n1"]
    assert keys.identities.tolist() == [
        *(plane.identity("N1"), plane.identity("N2"), 0, 0, plane.identity("n1"))
    ]
    expected = "expected a text of 1 to 128 characters"
    assert reasons == {
        2: f"tail is missing, {expected}",
        3: f"tail is '{'x' * 60}…', {expected}",
    }
    reasons = {}
    gate = Entity("gate", key={"airport": "string", "number": "integer"})
    keys = parse_keys(gate, [column("JFK", "JFK", "LAX"), column(1.0, None, 2.0)], reasons)
    assert keys.texts is not None
    assert keys.texts.tolist() == ['["JFK",1]', "", '["LAX",2]']
    assert reasons == {1: "number is missing, expected a whole number of at most 64 bits"}
    kept = keys.rows(np.array([True, False, True]))
    assert kept.identities.tolist() == [gate.identity(("JFK", 1)), gate.identity(("LAX", 2))]


@pytest.mark.parametrize("values", [(14228, 7), (1.5, 2.5), (True, False)])
def test_a_typed_column_is_no_key_of_texts(values: tuple[object, ...]) -> None:
    reasons: Reasons = {}
    parse_keys(Entity("tail", key="string"), [column(*values)], reasons)
    assert list(reasons) == [0, 1]


def test_times_are_utc_whatever_their_type_and_never_missing() -> None:
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    expected = np.datetime64("2026-01-05T12:00", "us")
    reasons: Reasons = {}
    texts = column("2026-01-05T12:00:00Z", "2026-01-05 14:00:00+02:00", "2026-01-05T12:00")
    assert (parse_times("t", texts, reasons) == expected).all()
    for value in (noon, noon.astimezone(CEST), noon.replace(tzinfo=None)):
        assert parse_times("t", column(value), reasons)[0] == expected
    day = parse_times("t", column(date(2026, 1, 5)), reasons)
    assert day[0] == np.datetime64("2026-01-05", "us")
    assert reasons == {}
    parse_times("t", column("soon", None), reasons)
    assert reasons == {
        0: "t is 'soon', expected a time such as 2026-01-05T10:00:00Z",
        1: "t is missing, expected a time such as 2026-01-05T10:00:00Z",
    }


def test_labels_are_told_by_their_text_of_whatever_type() -> None:
    reasons: Reasons = {}
    values = {"no": 0, "yes": 1, "true": 1, "1": 1}
    assert parse_labels("y", column("yes", "no"), values, reasons).tolist() == [1, 0]
    assert parse_labels("y", column(True), values, reasons).tolist() == [1]
    assert parse_labels("y", column(1), values, reasons).tolist() == [1]
    assert parse_labels("y", column(1.0, None), values, reasons).tolist() == [1, -1]
    assert reasons.pop(1) == "y is missing, expected one of no, yes, true, 1"
    assert reasons == {}


def test_lists_and_bytes_are_taken_as_texts_and_refused_as_numbers() -> None:
    for value in ([1, 2], b"ab", {"a": 1}):
        reasons: Reasons = {}
        parse_numbers(AGE, column(value), reasons)
        assert list(reasons) == [0]


@pytest.mark.parametrize(
    ("feature", "lost", "kept"),
    [
        (FeatureDefinition("account", "integer", ""), 16_777_217, 16_777_216),
        (FeatureDefinition("balance", "number", ""), 16_777_217, 16_777_218),
        (FeatureDefinition("balance", "number", ""), -123_456_789, -123_456_792),
        (FeatureDefinition("account", "integer", ""), 2**60, -(2**24)),
    ],
)
def test_a_whole_number_keeps_its_digits_or_is_refused_at_every_way_in(
    feature: FeatureDefinition, lost: int, kept: int
) -> None:
    for typed in (pl.Series([lost, kept]), pl.Series([str(lost), str(kept)])):
        reasons: Reasons = {}
        parsed = parse_numbers(feature, clean(typed, ()), reasons)
        assert list(reasons) == [0]
        assert f"{feature.name} is {lost}, expected" in reasons[0].replace("e+", "e+")
        assert parsed[1] == kept
    for value in (lost, float(lost)):
        with pytest.raises(InvalidValue):
            feature.refuse(value)
    feature.refuse(kept)


def test_a_fraction_is_rounded_and_a_very_large_number_is_no_count() -> None:
    reasons: Reasons = {}
    parsed = parse_numbers(WEIGHT, column(0.1, 1 / 3, 6.02e23, 123_456.789), reasons)
    assert not reasons
    assert parsed.tolist() == np.array([0.1, 1 / 3, 6.02e23, 123_456.789], np.float32).tolist()


MEMBER = FeatureDefinition("member", "boolean", "")


@pytest.mark.parametrize(
    "values",
    [
        column("true", "No", None, " ? ", "Y", "0"),
        column(True, False, None, None, True, False),
        column(1, 0, None, None, 1, 0),
        column(1.0, 0.0, float("nan"), None, 1.0, 0.0),
    ],
)
def test_what_is_true_or_false_is_so_whatever_its_type(values: pl.Series) -> None:
    reasons: Reasons = {}
    parsed = parse_numbers(MEMBER, values, reasons)
    assert not reasons
    assert parsed.tolist()[:2] == [1, 0]
    assert np.isnan(parsed[2:4]).all()
    assert [MEMBER.decode(value) for value in parsed] == [True, False, None, None, True, False]


@pytest.mark.parametrize("values", [column("maybe"), column(2), column(0.5), column("2")])
def test_what_is_neither_true_nor_false_is_refused(values: pl.Series) -> None:
    reasons: Reasons = {}
    parse_numbers(MEMBER, values, reasons)
    assert list(reasons) == [0]
    for value in (1, 0.0, "true", 2):
        with pytest.raises(InvalidValue, match="expected true or false, or null"):
            MEMBER.refuse(value)
    MEMBER.refuse(True)
    MEMBER.refuse(None)
