"""24,000 point-in-time answers against looking at every row: key types, zones, ties, TTL edges."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from configs.settings import Settings
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from feature_store.offline.entity_keys import note_keys
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from tests.worlds.databases import own_database

pytestmark = pytest.mark.full

ZONES = ("UTC", "America/New_York", "Europe/Berlin")
"""Of the database's session: what is asked for must not depend on it."""
CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # clocks go forward in the EU
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # and back
    datetime(2026, 3, 8, 7, tzinfo=UTC),  # forward in New York
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),  # PostgreSQL's own epoch
)
US, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)
STEPS = (-DAY - US, -DAY, -HOUR, -US, 0 * US, US, HOUR, 2 * HOUR, DAY, DAY + US)
TTLS = (None, HOUR, DAY, DAY + US, 2 * DAY)

ENTITIES = {
    "whole": (Entity("user_id"), [-1, 0, 7, 2**63 - 1]),
    "text": (Entity("tail_number", key="string"), ["N1", "n1", "N 1", "Ü"]),
    "composite": (
        Entity("route", key={"origin": "string", "gate": "integer"}),
        [("a,b", 1), ("a", 1), ("a", -1), ('a","b', 1)],
    ),
}

Event = tuple[int, int, int]
"""Places of the key, of the event time among the steps, and of the created time."""
EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)), max_size=25, unique=True
)


@pytest.fixture(scope="module")
def databases(settings: Settings) -> Iterator[dict[str, OfflineStore]]:
    """The same database, seen by sessions in several zones."""
    with own_database(settings) as url:
        sign = "&" if "?" in url else "?"
        yield {
            zone: OfflineStore(Postgres(f"{url}{sign}options={quote(f'-c timezone={zone}')}"))
            for zone in ZONES
        }


def test_the_sessions_are_in_their_zones(databases: dict[str, OfflineStore]) -> None:
    for zone, store in databases.items():
        with store.postgres.transaction() as connection:
            assert connection.execute("SHOW timezone").fetchone() == (zone,)


def expected(
    events: list[Event],
    change: datetime,
    asked: tuple[int, datetime],
    ttl: timedelta | None,
    known_by: datetime | None,
) -> int | None:
    """The place of the event that counts, found by looking at all of them."""
    key, time = asked
    found = [
        (change + STEPS[event], change + STEPS[created], place)
        for place, (of, event, created) in enumerate(events)
        if of == key and change + STEPS[event] <= time
        if ttl is None or time - (change + STEPS[event]) <= ttl
        if known_by is None or change + STEPS[created] <= known_by
    ]
    return max(found)[2] if found else None


def as_array(times: list[datetime]) -> np.ndarray:
    return np.array([time.replace(tzinfo=None) for time in times], dtype="datetime64[us]")


def stored(
    store: OfflineStore,
    view: FeatureView,
    keys: list[object],
    events: list[Event],
    change: datetime,
) -> list[int]:
    """Append the events, each as learned then; the feature tells them apart. Give identities."""
    identities = [view.key.identity(view.key.read(key)) for key in keys]
    if view.key.digested:
        with store.postgres.transaction() as connection:
            texts = [view.key.text(view.key.read(key)) for key in keys]
            note_keys(connection, view.key, np.array(identities), texts)
    for place, (key, event, created) in enumerate(events):
        matrix = FeatureMatrix(
            np.array([[place]], dtype=np.float32),
            np.array([identities[key]], dtype=np.int64),
            as_array([change + STEPS[event]]),
            view.schema,
        )
        store.append(matrix, view.entity, as_array([change + STEPS[created]]))
    return identities


@hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(list(ENTITIES)),
    events=EVENTS,
    change=st.sampled_from(CHANGES),
    ttl=st.sampled_from(TTLS),
    known_by=st.none() | st.sampled_from(STEPS),
    written_in=st.sampled_from(ZONES),
)
def test_every_answer_is_that_of_looking_at_every_row(
    databases: dict[str, OfflineStore],
    kind: str,
    events: list[Event],
    change: datetime,
    ttl: timedelta | None,
    known_by: timedelta | None,
    written_in: str,
) -> None:
    entity, keys = ENTITIES[kind]
    view = FeatureView(f"v{uuid.uuid4().hex[:12]}", entity)
    view.raw("place", description="Which event it is.")
    writer = databases[written_in]
    writer.versions.register(view.schema, view.entity)
    # Rows that were learned in order: a row is compared with the newest one of its event.
    events = sorted(events, key=lambda event: event[2])
    identities = stored(writer, view, keys, events, change)

    times = [change + step + more for step in STEPS for more in (0 * US, ttl or 0 * US)]
    times += [change + STEPS[-1] + (ttl or DAY) + US]
    asked = [(key, time) for key in range(len(keys)) for time in times]
    cut = None if known_by is None else change + known_by
    right = [expected(events, change, each, ttl, cut) for each in asked]
    answers = set()
    for store in databases.values():
        matrix, found = store.historical(
            view.schema,
            view.entity,
            np.array([identities[key] for key, _ in asked], dtype=np.int64),
            as_array([time for _, time in asked]),
            ttl=ttl,
            known_by=cut,
        )
        places = [int(v) if f else None for v, f in zip(matrix.values[:, 0], found, strict=True)]
        assert places == right
        answers.add(matrix.values.tobytes())
    assert len(answers) == 1
