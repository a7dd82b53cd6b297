"""Categories whose words are learned as they come: codes for ever, a cap, and no silent guess."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from configs.command_line import Stopwatch
from configs.feature_config import EventTimeConfig, FeatureConfig
from configs.settings import Settings
from configs.sources import FileSourceConfig, SourceFile
from feature_store import versions
from feature_store.definitions.columns import CodeTable
from feature_store.definitions.engine import Engine
from feature_store.definitions.schema import UNSEEN, FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError, FeatureStoreError, StoreUnavailable
from feature_store.ingest.compute import compute
from feature_store.ingest.feature_file import read_rows, refill, write_rows
from feature_store.ingest.materialize import materialize
from feature_store.ingest.run_stats import RunStats
from feature_store.ingest.staging import Staging
from feature_store.offline.postgres import Postgres
from feature_store.offline.vocabularies import Vocabularies
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.profiles.writer import ProfileChange, ProfileWriter
from feature_store.references import Reference
from feature_store.sources.files import FileSource
from feature_store.training_data import training_frame, training_rows
from tests.worlds.databases import own_database
from tests.worlds.typed_views import city_view

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = NOW - timedelta(days=60)
VIEW = city_view()
SCHEMA = VIEW.schema


def ingest(
    cities: list[str], folder: Path, offline: OfflineStore, online: OnlineStore, first: int = 1
) -> RunStats:
    """Bring people who live there into both stores, in files of two rows each."""
    users = range(first, first + len(cities))
    frame = pl.DataFrame({"user_id": users, "age": 30, "city": cities})
    frame = frame.with_columns(time=pl.lit("2026-02-01"), late=pl.lit("no"))
    names = []
    for start in range(0, len(frame), 2):
        names.append(f"part-{first + start}.csv")
        frame[start : start + 2].write_csv(folder / names[-1])
    config = FeatureConfig(
        event_time=EventTimeConfig(start=NOW - timedelta(days=90), end=NOW),
        source=FileSourceConfig(
            files=tuple(SourceFile(path=name) for name in names),
            key_column="user_id",
            event_time_column="time",
            label_column="late",
            label_values={"no": 0, "yes": 1},
        ),
    )
    source = FileSource(config.source, folder, {}, name="people", is_counted=False)
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, SCHEMA, VIEW.entity)
        reading, during = source.read(), None
        stats = compute(
            *(reading, staging, VIEW, config, during, Stopwatch(), NOW), offline.vocabularies
        )
        versions.start_fill(offline, online, VIEW.entity)
        stored = staging.store()
    materialize(offline, online, stored.keys, NOW)
    versions.switch(offline, online, 0)
    return stats


@pytest.fixture
def online(online: OnlineStore) -> OnlineStore:
    return online.of(SCHEMA)


@pytest.fixture
def fresh_store(settings: Settings) -> Iterator[OfflineStore]:
    """Another store, in which nothing is."""
    with own_database(settings) as url:
        yield OfflineStore(Postgres(url))


def codes(online: OnlineStore, *users: int) -> list[float]:
    return [online.read(user).vector[1].item() for user in users]


def test_words_get_their_codes_as_they_come_and_keep_them(offline, online, tmp_path):
    ingest(["Paris", " Oslo", "?", "paris"], tmp_path, offline, online)
    assert codes(online, 1, 2, 3, 4) == [2, 3, 0, 2]
    ingest(["Rome", "Oslo"], tmp_path, offline, online, first=5)
    assert codes(online, 1, 2, 5, 6) == [2, 3, 4, 3]
    known = offline.vocabularies.schema(SCHEMA)
    assert known.words == {"city": ("Paris", "Oslo", "Rome")}
    assert known.fingerprint == SCHEMA.fingerprint
    assert known.decode(online.read(5).vector) == {"age": 30, "city": "Rome", "lives_somewhere": 1}

    shown = offline.postgres.query("SELECT city FROM people ORDER BY user_id")["city"].to_list()
    assert shown == ["Paris", "Oslo", None, "Paris", "Rome", "Oslo"]
    frame, _ = training_frame(offline, [Reference(VIEW, "city")], "late", DAYS, NOW)
    assert frame["city"].tolist() == shown


def test_a_full_vocabulary_learns_no_more_and_says_what_it_did_not_know(offline, online, tmp_path):
    stats = ingest(["a", "b", "c", "d", "e", "d"], tmp_path, offline, online)
    assert codes(online, 1, 2, 3, 4, 5, 6) == [2, 3, 4, 5, UNSEEN, 5]
    assert stats.unseen == {"city=e": 1}
    assert offline.postgres.query("SELECT count(*) AS n FROM category_words")["n"][0] == 4


def test_two_learners_at_once_give_one_code_to_one_word(postgres: Postgres):
    given = [[f"w{n % 9}" for n in range(start, start + 9)] for start in range(8)]
    view = city_view(100)
    with ThreadPoolExecutor(8) as pool:
        learned = pool.map(lambda words: Vocabularies(postgres).learn(view, {"city": words}), given)
        seen = [each.definitions["city"].codes for each in learned]
    final = Vocabularies(postgres).view(view).definitions["city"].codes
    assert sorted(final.values()) == list(range(2, 11))
    assert all(final[word] == code for codes in seen for word, code in codes.items())
    assert all(set(words) <= set(codes) for words, codes in zip(given, seen, strict=True))


def test_what_is_no_word_is_not_learned(postgres: Postgres):
    given = ["x" * 101, "a\nb", "", "?", None, 2.0, "2"]
    view = Vocabularies(postgres).learn(VIEW, {"city": given})
    assert view.definitions["city"].categories == ("2",)


def test_nothing_is_taken_for_unseen_because_nobody_looked_the_words_up():
    engine = Engine(VIEW)
    assert engine.row({"age": 3, "city": None})[1] == 0
    for look in (
        lambda: engine.row({"city": "Paris"}),
        lambda: SCHEMA.decode(np.float32([1, 2, 1])),
        lambda: SCHEMA.known_codes(np.float32([[1, 2, 1]])),
    ):
        with pytest.raises(DefinitionError, match="'city' is open, and its words are in the offl"):
            look()
    assert SCHEMA.decode(np.float32([1, 0, 0]))["city"] is None
    assert SCHEMA.with_words({}).words == {}


def test_a_change_of_one_attribute_learns_its_word(offline, online, tmp_path):
    ingest(["Paris", "Oslo"], tmp_path, offline, online)
    writer = ProfileWriter(Engine(VIEW), offline, online)
    changes = [ProfileChange("c-1", 1, NOW - timedelta(days=1), {"city": "Rome"})]
    changes.append(ProfileChange("c-2", 2, NOW - timedelta(days=1), {"age": 31}))
    writer.apply(changes, NOW)
    known = offline.vocabularies.schema(SCHEMA)
    assert known.decode(online.read(1).vector)["city"] == "Rome"
    assert known.decode(online.read(2).vector) == {"age": 31, "city": "Oslo", "lives_somewhere": 1}
    # One that knows no word of what others have learned keeps the codes that are stored.
    ProfileWriter(Engine(VIEW), offline, online).apply(
        [ProfileChange("c-3", 1, NOW - timedelta(hours=1), {"age": 40})], NOW
    )
    assert known.decode(online.read(1).vector) == {"age": 40, "city": "Rome", "lives_somewhere": 1}


def test_a_file_of_rows_carries_the_words_behind_its_codes(offline, online, tmp_path, fresh_store):
    ingest(["Paris", "Oslo"], tmp_path, offline, online)
    rows = training_rows(offline, SCHEMA, "user_id", DAYS, NOW)
    write_rows(tmp_path / "rows.parquet", rows, "user_id")
    again = read_rows(tmp_path / "rows.parquet", SCHEMA, "user_id")
    assert again.features.schema.words == {"city": ("Paris", "Oslo")}
    assert refill(offline, online, again, "user_id").added == 0
    assert refill(fresh_store, online, again, "user_id").added == 2
    assert fresh_store.vocabularies.schema(SCHEMA).words == {"city": ("Paris", "Oslo")}
    others = again.features.schema.with_words({"city": ("Oslo", "Paris")})
    with pytest.raises(FeatureStoreError, match="'city' of 'people' has 'Paris' here where these"):
        offline.vocabularies.adopt(others)


def test_what_cannot_be_defined_is_refused():
    view = FeatureView("v", "e")
    for most in (0, 32_766):
        with pytest.raises(DefinitionError, match="expected 1 to 32,765"):
            view.raw("x", open_to=most, description="X.")
    with pytest.raises(DefinitionError, match="as category and as open vocabulary"):
        view.raw("x", open_to=5, categories=("a",), description="X.")
    with pytest.raises(DefinitionError, match="cannot name every category: its vocabulary is open"):
        CodeTable(VIEW.definitions["city"], {})
    meaning = json.loads(json.dumps(SCHEMA.meaning))
    assert FeatureSchema.from_meaning("people", meaning).fingerprint == SCHEMA.fingerprint
    assert city_view(5).schema.fingerprint != SCHEMA.fingerprint


def test_a_reader_asks_the_store_for_words_only_when_it_meets_a_new_code(postgres: Postgres):
    words = Vocabularies(postgres)
    words.learn(VIEW, {"city": ["Paris", "Oslo"]})
    oslo, rome = np.float32([[1, 3, 1]]), np.float32([[1, 4, 1]])
    assert words.schema_of(SCHEMA, oslo).decode(oslo[0])["city"] == "Oslo"
    words.postgres = Postgres("postgresql://nobody@127.0.0.1:1/none")
    assert words.schema_of(SCHEMA, oslo).decode(oslo[0])["city"] == "Oslo"
    with pytest.raises(StoreUnavailable):
        words.schema_of(SCHEMA, rome)
    words.postgres = postgres
    words.learn(VIEW, {"city": ["Rome"]})
    assert words.schema_of(SCHEMA, rome).decode(rome[0])["city"] == "Rome"
