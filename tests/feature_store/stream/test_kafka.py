"""What is particular to Kafka: addresses, options, offsets, and what the broker no longer has."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from configs.errors import SettingsError
from configs.settings import load_settings
from feature_store import connect
from feature_store.errors import FeatureStoreError, StoreUnavailable
from feature_store.offline.postgres import Postgres
from feature_store.stream.kafka.client import KafkaAddress, Topic, TopicReader, client_options
from feature_store.stream.kafka.event_stream import fields_of_message
from feature_store.stream.kafka.offsets import Beginning, Message, OffsetTable
from feature_store.stream.kafka.progress import starting_offset
from feature_store.stream.port import Entry, Refused
from tests.worlds.kafka import cluster
from tests.worlds.streams import NOON, PARSER, KafkaWorld, Recorder, change


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with cluster() as running:
        yield running.addresses


@pytest.fixture
def world(brokers: str, postgres: Postgres) -> Iterator[KafkaWorld]:
    made = KafkaWorld(brokers, postgres)
    yield made
    made.close()


@pytest.mark.parametrize("text", ["kafka://", "kafka://b", "kafka:///t", "kafka://u@b/t", "b:1/t"])
def test_what_is_no_address_of_a_topic_is_refused(text: str) -> None:
    with pytest.raises(FeatureStoreError, match="expected kafka://broker1:9092"):
        KafkaAddress.of(text)
    with pytest.raises(SettingsError, match="origin"):
        load_settings(feature={"stream": {"origin": text}})


def test_a_secret_stands_in_a_variable_and_never_in_a_file() -> None:
    kafka = {"options": {"sasl.password": "hunter2"}}
    with pytest.raises(SettingsError, match=r"'sasl\.password' is a secret: name the") as caught:
        load_settings(feature={"stream": {"kafka": kafka}})
    assert "hunter2" not in str(caught.value)
    by_name = {"options": {"sasl.username": "me"}, "options_env": {"sasl.password": "SECRET_OF_K"}}
    settings = load_settings(feature={"stream": {"origin": "kafka://b/t", "kafka": by_name}})
    with pytest.raises(FeatureStoreError, match="variable SECRET_OF_K is not set"):
        connect.kafka_connection(settings, {})
    made = connect.kafka_connection(
        settings.model_copy(update={"database_url": "postgresql://nowhere/none"}),
        {"SECRET_OF_K": "hunter2"},
    )
    assert made.topic.options == {"sasl.username": "me", "sasl.password": "hunter2"}
    assert made.topic.group == "fti-features"


def test_options_on_which_the_guarantees_stand_are_refused() -> None:
    with pytest.raises(FeatureStoreError, match=r"'enable\.auto\.commit' cannot stand in"):
        client_options({"enable.auto.commit": True}, {}, {})


def test_an_option_that_does_not_exist_is_named() -> None:
    topic = Topic(KafkaAddress("b:1", "t"), {"security.protocoll": "ssl"}, "g")
    with pytest.raises(FeatureStoreError, match=r'No such configuration property: "security\.prot'):
        TopicReader(topic)


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(FeatureStoreError, match=r"uv pip install -r requirements-kafka\.txt"):
        TopicReader(Topic(KafkaAddress("b:1", "t"), {}, "g"))


def test_a_topic_that_is_not_there_is_named(brokers: str) -> None:
    reader = TopicReader(Topic(KafkaAddress(brokers, "nowhere"), {}, "g"))
    with pytest.raises(FeatureStoreError, match=r"/nowhere cannot be read: .*Unknown topic"):
        reader.partitions()


def test_brokers_that_do_not_answer_are_named() -> None:
    reader = TopicReader(Topic(KafkaAddress("127.0.0.1:1", "t"), {}, "g"))
    with pytest.raises(StoreUnavailable, match=r"efused.* of kafka://127\.0\.0\.1:1/t right"):
        reader.partitions(wait_s=2)


NO_EVENTS = {
    None: "the message has no value, expected a JSON object with the fields of an event",
    b"[1]": "'[1]' is no JSON object with the fields of an event",
    b"\xff": "the message is not UTF-8",
    b'{"kind": "\\ud800"}': "the message holds half a character",
}


def test_messages_that_hold_no_event_are_dead_letters_as_they_were(world: KafkaWorld) -> None:
    world.connection.stream.send((b"7", value) for value in NO_EVENTS)
    world.stream.append([change("good")])
    assert world.drain(profile := Recorder()).dead == len(NO_EVENTS)
    assert list(profile.applied) == ["good"]
    found = world.postgres.query("SELECT key, value, reason FROM stream_dead_letters").rows()
    assert {key for key, _, _ in found} == {b"7"}
    assert {value: reason.startswith(NO_EVENTS[value]) for _, value, reason in found} == (
        dict.fromkeys(NO_EVENTS, True)
    )
    assert world.dead.replay("all") == len(NO_EVENTS)
    assert world.drain().dead == len(NO_EVENTS)


def test_a_message_may_write_numbers_and_attributes_as_json(world: KafkaWorld) -> None:
    value = (
        b'{"kind": "profile", "event_id": "e1", "user_id": 7, '
        b'"event_timestamp": "2026-01-05T12:00:00Z", "attributes": {"age": 36}, "x": null}'
    )
    fields, why = fields_of_message(value)
    assert (PARSER.parse(fields), why) == (change(), None)


def tables(postgres: Postgres) -> list[OffsetTable]:
    return [OffsetTable(postgres, "g", "s", owner, 10, rows=4) for owner in ("first", "second")]


def test_what_a_dead_consumer_may_have_had_is_suspect_until_all_of_it_is_done(
    postgres: Postgres,
) -> None:
    first, second = tables(postgres)
    assert first.take_over({0: 5}) == {0: Beginning(5, 0, 9)}
    assert second.take_over({0: 5}) == {0: Beginning(5, 1, 9)}
    second.settle({0: 8}, [], [], NOON)
    assert first.take_over({0: 5}) == {0: Beginning(8, 2, 9)}
    first.settle({0: 9}, [], [], NOON)
    assert second.take_over({0: 5}) == {0: Beginning(9, 1, 13)}
    second.hand_back([0])
    assert first.take_over({0: 5}) == {0: Beginning(9, 0, 13)}


def test_what_a_consumer_settles_that_has_lost_its_partition_counts_for_nothing(
    postgres: Postgres,
) -> None:
    first, second = tables(postgres)
    first.take_over({0: 5, 1: 0})
    second.take_over({0: 5})
    message, refused = Message((0, 5), None, b"x"), Refused(Entry(b"0-5", {}), "bad")
    assert first.settle({0: 6, 1: 1}, [(message, refused)], [], NOON) == {1}
    assert postgres.query("SELECT * FROM stream_dead_letters").is_empty()
    assert second.settle({0: 7}, [(message, refused)], [], NOON) == {0}
    assert second.settle({0: 6}, [], [], NOON) == {0}  # never back
    stored = {partition: known.next_offset for partition, known in second.all().items()}
    assert stored == {0: 7, 1: 1}
    assert len(postgres.query("SELECT * FROM stream_dead_letters")) == 1


def test_a_partition_that_ends_before_what_is_done_of_it_is_refused() -> None:
    with pytest.raises(FeatureStoreError, match="ends at 3, and it is done up to 8 already"):
        starting_offset("kafka://b/t", 0, 8, 0, 3)


def test_messages_that_the_broker_deleted_before_they_were_read_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert starting_offset("kafka://b/t", 2, 8, 10, 30) == 10
    assert "2 messages of partition 2 of kafka://b/t are gone that were not done" in caplog.text
    assert starting_offset("kafka://b/t", 2, 12, 10, 30) == 12


def test_a_new_group_begins_at_the_beginning_and_lag_is_told_by_partition(
    world: KafkaWorld,
) -> None:
    world.stream.append([change(f"e{n}") for n in range(20)])
    lags = world.connection.stream.lags()
    assert [(each.partition, each.owner) for each in lags] == [(n, None) for n in range(4)]
    assert sum(each.lag for each in lags) == world.stream.backlog() == 20
    world.stream.append([change("ahead", at=world.now + timedelta(minutes=1))])
    consumer = world.consumer()
    consumer.run(until_empty=True)
    assert (consumer.progress.applied, consumer.progress.held_back) == (20, 1)
    assert world.stream.backlog() == 1  # what waits is not done
