"""Changes of single attributes of a view with lookups: every other column stays, to the digit."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st
from redis import Redis

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.view import FeatureView
from feature_store.errors import EntityNotFound, InvalidEvent, StoreUnavailable
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.profiles.writer import ProfileChange, ProfileWriter
from feature_store.stream.events import EventParser
from tests.worlds.profile_oracle import bring_in

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
NOW = MONDAY + timedelta(days=100)
USERS = (1, 2, 3)
TIMES = [MONDAY + timedelta(microseconds=n) for n in range(6)]


def account_view() -> FeatureView:
    view = FeatureView("accounts", "user_id", missing=("?",))
    view.raw("visits", integer=True, description="How often.")
    view.raw("member", boolean=True, description="Whether a member.")
    view.raw("town", categories=("Rome", "Oslo"), description="Where.")
    view.lookup("account", "int64", description="The account's number.")
    view.lookup("balance", "float64", unit="EUR", description="What is there.", missing=("-1",))
    view.lookup("nick", "string", description="What friends say.")
    view.lookup("opened", "timestamp", description="When it was opened.")
    view.lookup("seen", "timestamp", description="When it was seen last.")

    @view.feature()
    def a_visit(balance, visits):
        "What is there, a visit."
        return balance / visits

    @view.feature(unit="d")
    def age_d(opened, seen):
        "How old it was when it was seen."
        return ((seen - opened) / np.timedelta64(1, "D")).astype(np.float32)

    return view


VIEW = account_view()
SCHEMA, ENGINE = VIEW.schema, Engine(VIEW)
EXACT = {column.name: column for column in SCHEMA.exact}


class FullRow(NamedTuple):
    key: int
    time: datetime
    attributes: Mapping[str, Any]


@pytest.fixture
def writer(offline: OfflineStore, online: OnlineStore) -> ProfileWriter:
    return ProfileWriter(ENGINE, offline, online.of(SCHEMA))


def change(
    key: int = 1, at: datetime = MONDAY, name: str = "e", **attributes: Any
) -> ProfileChange:
    return ProfileChange(name, key, at, attributes)


def as_matrix(rows: Sequence[FullRow]) -> FeatureMatrix:
    """Full rows as the batch pipeline appends them."""
    exact = np.full((len(rows), len(EXACT)), None, dtype=object)
    for place, row in enumerate(rows):
        exact[place] = [column.read(row.attributes.get(name)) for name, column in EXACT.items()]
    values = np.array([vector_of(row.attributes) for row in rows], dtype=np.float32)
    return FeatureMatrix(
        values.reshape(len(rows), len(SCHEMA)),
        np.array([row.key for row in rows], dtype=np.int64),
        np.array([row.time.replace(tzinfo=None) for row in rows], dtype="datetime64[us]"),
        SCHEMA,
        exact,
    )


def vector_of(attributes: Mapping[str, Any]) -> np.ndarray:
    """One vector by the engine, from all that is known of a user."""
    balance = EXACT["balance"].read(attributes.get("balance"))
    plain = {name: attributes[name] for name in ("visits", "member", "town") if name in attributes}
    times = {name: attributes.get(name) for name in VIEW.timestamps}
    rounded = None if balance is None else float(np.float32(balance))
    return ENGINE.row({**plain, **times, "balance": rounded})


def state(
    key: int, at: datetime, full: Sequence[FullRow], changes: Sequence[ProfileChange]
) -> tuple[bytes, list[Any]] | None:
    """What is known of a user at a time, by a fold over dictionaries; None before the first row."""
    known = [(row.time, 0, "", row) for row in full]
    known += [(each.time, 1, each.event_id, each) for each in changes]
    known = sorted((i for i in known if i[-1].key == key and i[0] <= at), key=lambda i: i[:3])
    if not known:
        return None
    attributes: dict[str, Any] = {}
    for *_, item in known:
        attributes = {} if isinstance(item, FullRow) else attributes
        attributes |= item.attributes
    exact = [column.read(attributes.get(name)) for name, column in EXACT.items()]
    return vector_of(attributes).tobytes(), exact


def append(writer: ProfileWriter, *rows: FullRow) -> None:
    matrix, created = as_matrix(rows), datetime.now(UTC)
    writer.offline.append(matrix, "user_id", created)
    writer.online.write(matrix, created)
    writer.reconcile(matrix.keys, matrix.times)


def read_online(writer: ProfileWriter, key: int) -> tuple[bytes, list[Any]] | None:
    try:
        row = writer.online.read(key)
    except EntityNotFound:
        return None
    assert row.exact is not None
    return row.vector.tobytes(), list(row.exact)


def assert_is_what_the_oracle_says(
    writer: ProfileWriter, full: Sequence[FullRow], changes: Sequence[ProfileChange]
) -> None:
    asked = [(key, at) for key in USERS for at in TIMES]
    keys = np.array([key for key, _ in asked], dtype=np.int64)
    times = np.array([at.replace(tzinfo=None) for _, at in asked], dtype="datetime64[us]")
    rows, found = writer.offline.historical(SCHEMA, "user_id", keys, times)
    assert rows.exact is not None
    for place, (key, at) in enumerate(asked):
        stored = (rows.values[place].tobytes(), rows.exact[place].tolist())
        assert (stored if found[place] else None) == state(key, at, full, changes), (key, at)
    for key in USERS:
        assert read_online(writer, key) == state(key, TIMES[-1], full, changes), key


MOMENTS = st.integers(-(10**15), 10**15).map(
    lambda us: (MONDAY + timedelta(microseconds=us)).isoformat()
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "visits": st.none() | st.integers(-5, 2**24),
    "member": st.none() | st.booleans(),
    "town": st.none() | st.sampled_from(["Rome", "oslo", "Bern", "?"]),
    "account": st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.just("9007199254740993"),
    "balance": st.none() | st.just(-1) | st.floats(-3e38, 3e38).map(lambda x: x + 0.0),
    "nick": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
    "opened": st.none() | MOMENTS,
    "seen": st.none() | MOMENTS,
}
ATTRIBUTES = st.fixed_dictionaries({}, optional=VALUES)
FULL = st.builds(FullRow, st.sampled_from(USERS), st.sampled_from(TIMES), ATTRIBUTES)
CHANGES = st.builds(
    ProfileChange,
    st.uuids().map(str),
    st.sampled_from(USERS),
    st.sampled_from(TIMES),
    ATTRIBUTES.filter(bool),
)


@given(
    full=st.lists(FULL, max_size=4, unique_by=lambda row: (row.key, row.time)),
    changes=st.lists(CHANGES, min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_split_and_repetition_ends_in_the_same_rows(
    new_writer: Callable[[], ProfileWriter],
    full: list[FullRow],
    changes: list[ProfileChange],
    seed: int,
) -> None:
    writer = new_writer()
    bring_in(writer, full, changes, append, random.Random(seed), NOW)
    assert_is_what_the_oracle_says(writer, full, changes)
    assert writer.reconcile() == 0


@pytest.fixture
def new_writer(writer: ProfileWriter) -> Iterator[Callable[[], ProfileWriter]]:
    """Gives the writer; the rows of the one before are gone."""
    writer.offline.versions.register(SCHEMA, "user_id")

    def new() -> ProfileWriter:
        with writer.offline.postgres.transaction() as connection:
            for table in (writer.table, "profile_changes"):
                connection.execute(f"DELETE FROM {table}")
        writer.online.delete()
        return writer

    return new


WHOLE_ROW = {
    **{"visits": 4, "member": True, "town": "Rome", "account": 2**63 - 1, "balance": 0.1},
    **{"nick": "  Zoë\n\U0001f600", "opened": "2026-01-05T10:00:00.123456Z", "seen": None},
}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("visits", 5, 5),
        ("member", False, False),
        ("account", "9007199254740993", 9007199254740993),
        ("account", 9007199254740993, 9007199254740993),
        ("account", None, None),
        ("balance", 16_777_217, 16_777_217.0),
        ("balance", -1, None),
        ("balance", 5e-324, 5e-324),
        ("nick", "two\nlines", "two\nlines"),
        ("seen", "2026-02-01T12:00:00+02:00", datetime(2026, 2, 1, 10, tzinfo=UTC)),
    ],
)
def test_an_event_changes_one_column_and_no_digit_of_another(
    writer: ProfileWriter, name: str, value: Any, expected: Any
) -> None:
    append(writer, FullRow(1, TIMES[0], WHOLE_ROW))
    row = writer.online.read(1)
    before = SCHEMA.decode(row.vector, row.exact)
    fields = {
        **{"kind": "profile", "event_id": "e", "user_id": "1"},
        **{"event_timestamp": TIMES[1].isoformat(), "attributes": json.dumps({name: value})},
    }
    event = EventParser(VIEW).parse({n.encode(): text.encode() for n, text in fields.items()})
    assert isinstance(event, ProfileChange)
    assert writer.apply([event], NOW) == 1
    row = writer.online.read(1)
    after = SCHEMA.decode(row.vector, row.exact)
    assert after[name] == expected
    kept = before.keys() - {name, "a_visit", "age_d"}
    assert {n: after[n] for n in kept} == {n: before[n] for n in kept}
    assert row.vector.tobytes() == vector_of({**WHOLE_ROW, name: value}).tobytes()
    shown = writer.offline.postgres.query(
        f"SELECT {name} FROM accounts ORDER BY event_timestamp DESC LIMIT 1"
    )
    assert shown[name][0] == expected


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"account": 1.5}, "account is '1.5', expected a whole number of at most 64 bits"),
        ({"account": 1e16}, "account is '1e[+]16', expected a whole number"),
        ({"account": 2**63}, "account is '9223372036854775808', expected a whole number"),
        ({"balance": "0.1"}, "balance is '0.1', expected .* as a number"),
        ({"balance": 1e300}, "balance is '1e[+]300', expected -3.40"),
        ({"balance": True}, "balance is 'True', expected a number"),
        ({"nick": 7}, "nick is '7', expected a text"),
        ({"nick": "a\0b"}, "nick is 'a\0b', expected a text"),
        ({"opened": "noon"}, "opened is 'noon', expected a time"),
        ({"opened": 5}, "opened is '5', expected a time"),
        ({"age_d": 5}, "there is no attribute 'age_d'"),
    ],
)
def test_what_is_none_of_its_type_is_no_event(attributes: dict[str, Any], reason: str) -> None:
    fields = {
        **{"kind": "profile", "event_id": "e", "user_id": "1"},
        **{"event_timestamp": MONDAY.isoformat(), "attributes": json.dumps(attributes)},
    }
    with pytest.raises(InvalidEvent, match=reason):
        EventParser(VIEW).parse({name.encode(): text.encode() for name, text in fields.items()})


def test_a_change_of_an_unknown_user_starts_from_nothing(writer: ProfileWriter) -> None:
    assert writer.apply([change(7, account=2**60 + 1)], NOW) == 1
    row = writer.online.read(7)
    decoded = SCHEMA.decode(row.vector, row.exact)
    assert decoded == {**dict.fromkeys(SCHEMA.columns), "account": 2**60 + 1}


def test_a_writer_that_was_killed_between_the_stores_ends_as_if_it_had_not_been(
    writer: ProfileWriter,
) -> None:
    append(writer, FullRow(1, TIMES[0], WHOLE_ROW))
    one, two = change(name="1", at=TIMES[1], account=7), change(name="2", at=TIMES[2], nick="Z")
    child = get_context("spawn").Process(
        target=die_between_the_stores, args=(writer.offline.postgres.url, [one])
    )
    child.start()
    child.join()
    assert child.exitcode == 9
    assert read_online(writer, 1) == state(1, TIMES[0], [FullRow(1, TIMES[0], WHOLE_ROW)], [])
    assert writer.apply([one, two], NOW) == 1  # the first is logged already
    assert_is_what_the_oracle_says(writer, [FullRow(1, TIMES[0], WHOLE_ROW)], [one, two])
    writer.online.client.delete(writer.online.key(1))
    assert writer.apply([one, one], NOW) == 0
    assert_is_what_the_oracle_says(writer, [FullRow(1, TIMES[0], WHOLE_ROW)], [one, two])


def die_between_the_stores(database_url: str, changes: Sequence[ProfileChange]) -> None:
    """In a process of its own: PostgreSQL commits, Redis never hears of it."""
    online = OnlineStore(Redis(port=1), "p", SCHEMA)
    online.write = lambda *_: os._exit(9)  # type: ignore[method-assign, assignment]
    ProfileWriter(ENGINE, OfflineStore(Postgres(database_url)), online).apply(changes, NOW)


def test_a_store_that_is_away_for_a_while_loses_no_digit(writer: ProfileWriter) -> None:
    append(writer, FullRow(1, TIMES[0], WHOLE_ROW))
    one = change(at=TIMES[1], balance=0.30000000000000004)
    away = OnlineStore(Redis(port=1, socket_timeout=0.1, retry=None), "p", SCHEMA)
    with pytest.raises(StoreUnavailable):
        ProfileWriter(ENGINE, writer.offline, away).apply([one], NOW)
    assert writer.apply([one], NOW) == 0
    assert_is_what_the_oracle_says(writer, [FullRow(1, TIMES[0], WHOLE_ROW)], [one])
