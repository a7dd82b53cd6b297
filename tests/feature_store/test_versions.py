"""Versions of a view side by side: filled beside the old, switched at once, dropped by hand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from redis import Redis

from configs.settings import ROOT
from feature_store import versions
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureDefinition, FeatureSchema
from feature_store.errors import (
    EntityNotFound,
    SchemaMismatch,
    UnknownVersion,
    VersionIncomplete,
    VersionInUse,
)
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.versions import record_readers
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from tests.worlds.rows import MONDAY
from tests.worlds.strategies import bits

OLD = MODEL_VIEW.schema
VIEW, ENTITY = OLD.view, MODEL_VIEW.entity
Features = list[FeatureDefinition]


def changed(name: str, **facts: object) -> Callable[[Features], Features]:
    return lambda features: [replace(f, **facts) if f.name == name else f for f in features]


def swapped(features: Features) -> Features:
    return [features[1], features[0], *features[2:]]


WORKCLASS = OLD.features[OLD.position("workclass")].categories
EXTRA = FeatureDefinition("shoe_size", "number", "Size of the shoes.", valid_range=(20, 60))
CHANGES = {
    "added": (lambda features: [*features, EXTRA], "'shoe_size' is new"),
    "removed": (lambda features: features[:-1], f"'{OLD.names[-1]}' is gone"),
    "reordered": (swapped, "features are in another order: 'workclass' stands where 'age' stood"),
    "vocabulary": (
        changed("workclass", categories=(*WORKCLASS, "Gig")),
        "feature 'workclass' changed: categories gain Gig",
    ),
    "version": (changed("age", version=2), "feature 'age' changed: version 1 → 2"),
    "range": (
        changed("age", valid_range=(0, 99)),
        "feature 'age' changed: valid_range 0 to 120 → 0 to 99",
    ),
}


def new_schema(kind: str) -> FeatureSchema:
    return FeatureSchema(VIEW, tuple(CHANGES[kind][0](list(OLD.features))))


def under(schema: FeatureSchema, matrix: FeatureMatrix) -> FeatureMatrix:
    """The rows as another definition of the view would have them; each value is its own."""
    values = np.arange(len(matrix) * len(schema), dtype=np.float32).reshape(len(matrix), -1) % 7
    return replace(matrix, values=values, schema=schema)


def online_of(online: OnlineStore, schema: FeatureSchema) -> OnlineStore:
    return OnlineStore(online.client, online.prefix.split(":")[0], schema)


def fill(offline: OfflineStore, online: OnlineStore, matrix: FeatureMatrix) -> None:
    versions.start_fill(offline, online, ENTITY)
    offline.append(matrix, ENTITY, MONDAY)
    online.write(matrix, MONDAY)


@pytest.fixture
def filled(offline: OfflineStore, online: OnlineStore, matrix: FeatureMatrix) -> OnlineStore:
    """Both stores with the old version, current."""
    fill(offline, online, matrix)
    versions.switch(offline, online, 0)
    return online


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_definition_is_refused_with_what_changed(
    kind: str, offline: OfflineStore, filled: OnlineStore, matrix: FeatureMatrix
) -> None:
    schema = new_schema(kind)
    with pytest.raises(SchemaMismatch, match=re.escape(f"({CHANGES[kind][1]})")) as refused:
        offline.historical(schema, ENTITY, matrix.keys, matrix.times)
    assert f"holds {OLD.fingerprint} (current) of 'user_features'" in str(refused.value)
    assert "python pipelines/feature_pipeline.py" in str(refused.value)
    with pytest.raises(SchemaMismatch, match=re.escape(f"({CHANGES[kind][1]})")):
        online_of(filled, schema).read(1)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_version_is_filled_beside_the_old_and_both_stay_readable(
    kind: str, offline: OfflineStore, filled: OnlineStore, matrix: FeatureMatrix
) -> None:
    schema = new_schema(kind)
    new, online = under(schema, matrix), online_of(filled, schema)
    fill(offline, online, new)
    current = offline.versions.current(VIEW)
    assert current is not None
    assert current.fingerprint == OLD.fingerprint
    with pytest.raises(SchemaMismatch, match="is being filled and has not been switched to"):
        offline.historical(schema, ENTITY, matrix.keys, matrix.times)
    with pytest.raises(SchemaMismatch, match="is being filled and has not been switched to"):
        online.read(1)

    versions.switch(offline, online, 0)
    for each, store in ((matrix, filled), (new, online)):
        found, present = offline.historical(each.schema, ENTITY, each.keys, each.times)
        assert present.all()
        assert np.array_equal(bits(found.values), bits(each.values))
        assert np.array_equal(bits(store.read(7).vector), bits(each.values[6]))


def test_the_stored_definition_gives_the_same_fingerprint(
    offline: OfflineStore, filled: OnlineStore
) -> None:
    current = offline.versions.current(VIEW)
    assert current is not None
    assert current.schema.fingerprint == OLD.fingerprint
    assert current.state == "current"
    assert current.entity == ENTITY


def test_the_readable_view_follows_the_switch_at_once(
    offline: OfflineStore, filled: OnlineStore, matrix: FeatureMatrix
) -> None:
    online = online_of(filled, new_schema("added"))
    fill(offline, online, under(online.schema, matrix))
    seen: set[tuple[int, ...]] = set()
    stop = threading.Event()

    def look() -> None:
        with psycopg.connect(offline.postgres.url, autocommit=True) as connection:
            query = f"SELECT * FROM {VIEW} LIMIT 1"
            while not stop.is_set():
                columns = connection.execute(query, prepare=False).description
                assert columns is not None
                seen.add((len(columns),))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for fingerprint in [online.schema.fingerprint, OLD.fingerprint] * 5:
        offline.versions.switch(VIEW, fingerprint)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen == {(len(OLD) + 3,), (len(OLD) + 4,)}


def test_a_fill_that_lacks_entities_is_not_switched_to(
    offline: OfflineStore, filled: OnlineStore, matrix: FeatureMatrix
) -> None:
    online = online_of(filled, new_schema("version"))
    new = under(online.schema, matrix)
    fill(offline, online, new.rows(np.arange(150)))
    with pytest.raises(VersionIncomplete, match="lacks 150 of the 300 entities of the current"):
        versions.switch(offline, online, 0.01)
    with pytest.raises(SchemaMismatch, match="being filled"):
        online.read(1)

    fill(offline, online, new)
    assert versions.switch(offline, online, 0.01).state == "current"
    assert online.read(300).key == 300


def test_the_first_fill_is_not_visible_before_it_is_complete_either(
    offline: OfflineStore, online: OnlineStore, matrix: FeatureMatrix
) -> None:
    fill(offline, online, matrix.rows(np.arange(150)))
    with pytest.raises(SchemaMismatch, match="being filled"):
        online.read(1)
    with pytest.raises(SchemaMismatch, match="being filled"):
        offline.latest(OLD, ENTITY, datetime(2020, 1, 1, tzinfo=UTC), MONDAY)
    fill(offline, online, matrix)
    versions.switch(offline, online, 0)
    assert online.read(1).key == 1


def test_switching_back_makes_the_old_one_current_again(
    offline: OfflineStore, filled: OnlineStore, matrix: FeatureMatrix
) -> None:
    online = online_of(filled, new_schema("removed"))
    fill(offline, online, under(online.schema, matrix))
    versions.switch(offline, online, 0)
    assert [v.state for v in offline.versions.versions(VIEW)] == ["current", "previous"]
    versions.switch(offline, filled, 0)
    assert [v.state for v in offline.versions.versions(VIEW)] == ["previous", "current"]


def test_the_current_version_and_one_that_is_read_are_not_dropped(
    offline: OfflineStore, filled: OnlineStore, matrix: FeatureMatrix
) -> None:
    with pytest.raises(VersionInUse, match="is the current one"):
        versions.drop(offline, filled)
    online = online_of(filled, new_schema("removed"))
    fill(offline, online, under(online.schema, matrix))
    versions.switch(offline, online, 0)
    reader = {"income-xgb-v3": OLD.fingerprint}
    with offline.postgres.transaction() as connection:
        record_readers(connection, "income-predictor", reader)
    with pytest.raises(VersionInUse, match="is read by income-xgb-v3"):
        versions.drop(offline, filled)
    assert filled.read(1).key == 1

    with offline.postgres.transaction() as connection:
        record_readers(connection, "income-predictor", {})
    assert versions.drop(offline, filled) == 300
    assert filled.count() == 0
    assert online.count() == 300
    with pytest.raises(SchemaMismatch, match=f"'{OLD.names[-1]}' is new"):
        offline.latest(OLD, ENTITY, datetime(2020, 1, 1, tzinfo=UTC), MONDAY)
    with pytest.raises(SchemaMismatch, match="The online store holds"):
        filled.read(1)


def test_a_version_is_found_by_the_beginning_of_its_fingerprint(
    offline: OfflineStore, filled: OnlineStore
) -> None:
    assert offline.versions.find(VIEW, OLD.fingerprint[:6]).fingerprint == OLD.fingerprint
    with pytest.raises(UnknownVersion, match=f"'zz' is no version .* Known: {OLD.fingerprint}"):
        offline.versions.find(VIEW, "zz")


def test_an_entity_that_nobody_wrote_is_not_found_in_a_stored_version(filled: OnlineStore) -> None:
    with pytest.raises(EntityNotFound, match="No online features for user_features 999"):
        filled.read(999)


FILLER = """
import json, sys, time
import numpy as np
from datetime import UTC, datetime
from redis import Redis
from feature_store import versions
from feature_store.definitions.engine import FeatureMatrix
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.offline.postgres import Postgres
from feature_store.definitions.schema import FeatureSchema

url, redis_url, project, definition = json.loads(sys.argv[1])
schema = FeatureSchema.from_meaning("user_features", definition)
offline = OfflineStore(Postgres(url))
online = OnlineStore(Redis.from_url(redis_url), project, schema)
versions.start_fill(offline, online, "user_id")
for start in range(1, 301, 30):
    keys = np.arange(start, start + 30)
    values = np.repeat(keys[:, None] % 7, len(schema), axis=1).astype("f4")
    times = np.datetime64("2026-01-01", "us") + keys * np.timedelta64(1, "h")
    block = FeatureMatrix(values, keys, times, schema)
    offline.append(block, "user_id", datetime.now(UTC))
    online.write(block, datetime.now(UTC))
    print(start, flush=True)
    time.sleep(float(sys.argv[2]))
versions.switch(offline, online, 0)
"""


def filler(offline: OfflineStore, online: OnlineStore, pause: float) -> subprocess.Popen[str]:
    connection = online.client.connection_pool.connection_kwargs
    password = f":{connection['password']}@" if connection.get("password") else ""
    redis_url = f"redis://{password}{connection['host']}:{connection['port']}/{connection['db']}"
    project = online.prefix.split(":")[0]
    world = json.dumps([offline.postgres.url, redis_url, project, online.schema.meaning])
    return subprocess.Popen(
        [sys.executable, "-c", FILLER, world, str(pause)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def test_a_fill_that_is_killed_is_never_current_and_a_second_run_completes_it(
    offline: OfflineStore, filled: OnlineStore, redis: Redis
) -> None:
    online = online_of(filled, new_schema("added"))
    killed = filler(offline, online, pause=5)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "1\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    assert online.count() == 30
    states = {v.fingerprint: v.state for v in offline.versions.versions(VIEW)}
    assert states == {OLD.fingerprint: "current", online.schema.fingerprint: "filling"}
    with pytest.raises(SchemaMismatch, match="being filled"):
        online.read(1)
    assert filled.read(300).key == 300

    again = filler(offline, online, pause=0)
    again.communicate()
    assert again.returncode == 0
    current = offline.versions.current(VIEW)
    assert current is not None
    assert current.fingerprint == online.schema.fingerprint
    assert online.read(300).vector.tolist() == [300 % 7] * len(online.schema)
