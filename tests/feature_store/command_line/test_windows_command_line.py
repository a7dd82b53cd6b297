"""``python -m feature_store`` on a windowed view: events, values as of now, versions."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from configs.settings import Settings
from feature_store import connect, versions
from feature_store.__main__ import app
from feature_store.errors import EntityNotFound
from feature_store.feature_definitions import USER_ACTIVITY
from feature_store.offline.events import ActivityEvent
from feature_store.windows.writer import ActivityWriter
from infrastructure.embedded import redis_url
from tests.worlds.windows import hourly

NOW = datetime.now(UTC).replace(microsecond=0)
SCHEMA = USER_ACTIVITY.schema
HOUR = timedelta(hours=1)
EVENTS = [
    ActivityEvent("a", 1, NOW - 49 * HOUR, "view", None),
    ActivityEvent("b", 1, NOW - HOUR, "purchase", 1_250),
    ActivityEvent("c", 2, NOW - 2 * HOUR, "purchase", 400),
    ActivityEvent("d", 3, NOW - 24 * 40 * HOUR, "view", None),
]


@dataclass(frozen=True)
class World:
    """Stores with the events of three users, and what finds them."""

    writer: ActivityWriter
    settings: Settings
    environment: dict[str, str]

    def invoke(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, env=self.environment, catch_exceptions=False)

    def run(self, *arguments: str) -> str:
        result = self.invoke(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def data(self, *arguments: str):
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def world(settings: Settings, database_url: str) -> World:
    name = f"test{uuid.uuid4().hex[:12]}"
    own = settings.model_copy(
        update={
            "database_url": database_url,
            "redis_url": redis_url(settings),
            "feature": settings.feature.model_copy(update={"project": name}),
        }
    )
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": str(own.redis_url),
        "FTI_FEATURE__PROJECT": name,
        "FTI_VAR_DIR": str(own.var_dir),
    }
    writer = connect.activity_writer(own)
    writer.apply(EVENTS, NOW)
    return World(writer, own, environment)


VIEW = ("--view", "user_activity")


def test_list_and_describe_tell_the_windows(world: World) -> None:
    [view] = world.data("list", "user_activity")
    assert [feature["feature"] for feature in view["features"]] == list(SCHEMA.names)
    about = world.data("describe", "user_activity")
    assert about["windows"] == ["1d in hops of 1h", "7d in hops of 1d", "30d in hops of 1d"]
    assert about["offline_table"] == "user_events"
    assert [version["state"] for version in about["versions"]] == ["current"]
    feature = world.data("describe", "purchases_count_7d")
    assert (feature["event_type"], feature["window"], feature["hop"]) == ("purchase", "7d", "1d")
    assert "purchases_count_7d" in world.run("describe", "user_activity:purchases_count_7d")


def test_get_shows_the_values_as_of_now(world: World) -> None:
    row = world.data("get", "--user-id", "1", *VIEW)
    values = row["values"]
    assert [values[f"events_count_{w}"] for w in ("1d", "7d", "30d")] == [1, 2, 2]
    assert values["amount_mean_1d"] == 12.5
    with pytest.raises(EntityNotFound, match=r"No online features for user_activity 3\. Did you"):
        world.run("get", "--user-id", "3", *VIEW)


def test_history_shows_every_event_and_the_values_after_it(world: World) -> None:
    first, second = world.data("history", "--user-id", "1", *VIEW)["rows"]
    assert (first["event_id"], first["event_type"], first["amount_cents"]) == ("a", "view", None)
    assert first["values"]["events_count_7d"] == 1
    assert first["values"]["amount_mean_7d"] is None
    assert second["values"]["events_count_7d"] == 2
    assert second["values"]["amount_sum_1d"] == 12.5
    assert "12.50" in world.run("history", "--user-id", "1", *VIEW)
    with pytest.raises(EntityNotFound, match="No rows of user_activity 9"):
        world.run("history", "--user-id", "9", *VIEW)


def test_stats_are_those_of_every_user_as_of_now(world: World) -> None:
    answer = world.data("stats", *VIEW)
    assert answer["rows"] == 3
    by_name = {each["feature"]: each for each in answer["features"]}
    assert by_name["events_count_7d"]["null_rate"] == pytest.approx(1 / 3)  # user 3 is quiet
    assert by_name["events_count_7d"]["max"] == 2
    assert by_name["amount_sum_30d"]["mean"] == pytest.approx(8.25)
    [one] = world.data("stats", "--feature", "events_count_1d", *VIEW)["features"]
    assert one["mean"] == 1
    assert "3 users as of" in world.run("stats", *VIEW)


def test_validate_compares_the_tiles_with_the_events(world: World) -> None:
    answer = world.data("validate", *VIEW)
    assert (answer["offline_rows_checked"], answer["online_rows_compared"]) == (4, 3)
    assert answer["findings"] == []
    online = world.writer.online
    row = online.client.get(online.key(1))
    online.client.set(online.key(1), row[:-1] + b"\x01")
    online.client.delete(online.key(2))
    with world.writer.postgres.transaction() as connection:
        connection.execute(
            "UPDATE user_events SET created_timestamp = '2001-01-01' WHERE event_id = 'd'"
        )
    result = world.invoke("validate", *VIEW, "--json")
    assert result.exit_code == 1
    findings = {each["check"]: each["first"] for each in json.loads(result.stdout)["findings"]}
    assert findings["entity is missing online"].startswith("user_id 2 at")
    assert findings["online tiles differ from the events"].startswith("user_id 1 at")
    assert findings["event was stored before it happened"].startswith("event 'd' of user_id 3")


def test_rebuild_heals_what_validate_found(world: World) -> None:
    online = world.writer.online
    for key in online.client.scan_iter(f"{online.project}:*"):
        online.client.delete(key)
    assert world.data("rebuild", "user_activity")["online_rows"] == 3
    assert world.data("validate", *VIEW)["findings"] == []
    since = (NOW - 3 * HOUR).isoformat()
    assert world.data("rebuild", "user_activity", "--start", since)["online_rows"] == 2


def test_a_version_is_switched_to_and_dropped_and_the_events_stay(world: World) -> None:
    offline = connect.offline_store(world.settings)
    other = connect.online_store(world.settings, schema=hourly())
    versions.start_fill(offline, other, "user_id")
    states = {each["fingerprint"]: each for each in world.data("versions", "user_activity")}
    assert states[hourly().fingerprint]["state"] == "filling"
    assert "hop 1h → 1d" in states[hourly().fingerprint]["changes_to_this_code"][0]
    world.run("switch-version", "user_activity", hourly().fingerprint)
    assert other.count() == 3
    assert world.data("get", "--user-id", "1", "--version", hourly().fingerprint, *VIEW)["values"]
    dropped = world.data("drop-version", "user_activity", SCHEMA.fingerprint, "--yes")
    assert dropped["online_rows"] == 3
    assert world.writer.count_users() == 3


def test_simulated_events_are_counted_or_stored_once(world: World) -> None:
    given = ("simulate", "--users", "40", "--days", "5", "--seed", "3")
    counted = world.data(*given)
    assert counted["stored_now"] is None
    stored = world.data(*given, "--to", "postgres")
    assert stored["stored_now"] == counted["arrivals"] - counted["delivered_twice"]
    assert world.data(*given, "--to", "postgres")["stored_now"] == 0
    assert world.data("validate", *VIEW)["findings"] == []
