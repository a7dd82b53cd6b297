"""``python -m feature_store`` on real stores: what people see, programs get, and is refused."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import resource
import struct
import subprocess
import sys
import termios
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from configs.settings import ROOT, Settings
from feature_store import connect, versions
from feature_store.__main__ import app
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import EntityNotFound, UnknownFeature, UnknownVersion, VersionInUse
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from infrastructure.embedded import redis_url
from tests.worlds.databases import own_database
from tests.worlds.rows import random_matrix

SCHEMA = MODEL_VIEW.schema
CREATED = datetime(2026, 1, 20, tzinfo=UTC)
SMALLER = FeatureSchema(SCHEMA.view, SCHEMA.features[:-1])


@dataclass(frozen=True)
class Stores:
    """Both stores with 300 users, and what finds them."""

    offline: OfflineStore
    online: OnlineStore
    matrix: FeatureMatrix
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        """Standard output of a command, run in this process; errors are raised."""
        result = CliRunner().invoke(app, arguments, env=self.environment, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    def data(self, *arguments: str):
        """What a command prints with ``--json``."""
        return json.loads(self.run(*arguments, "--json"))

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as people do."""
        return subprocess.run(
            [sys.executable, "-m", "feature_store", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )


@pytest.fixture(scope="module")
def new_stores(settings: Settings) -> Iterator[Callable[[], Stores]]:
    """Makes filled stores of a test's own."""
    databases = ExitStack()

    def new() -> Stores:
        name = f"test{uuid.uuid4().hex[:12]}"
        own = settings.model_copy(
            update={
                "database_url": databases.enter_context(own_database(settings)),
                "redis_url": redis_url(settings),
                "feature": settings.feature.model_copy(update={"project": name}),
            }
        )
        offline, online, matrix = (
            connect.offline_store(own),
            connect.online_store(own),
            random_matrix(apart="h"),
        )
        versions.start_fill(offline, online, MODEL_VIEW.entity)
        offline.append(matrix, MODEL_VIEW.entity, CREATED)
        online.write(matrix, CREATED)
        versions.switch(offline, online, 0)
        environment = {
            "DATABASE_URL": str(own.database_url),
            "REDIS_URL": str(own.redis_url),
            "FTI_FEATURE__PROJECT": name,
            "FTI_VAR_DIR": str(own.var_dir),
        }
        return Stores(offline, online, matrix, environment)

    with databases:
        yield new


@pytest.fixture(scope="module")
def stores(new_stores: Callable[[], Stores]) -> Stores:
    """Stores that the tests of this module leave as they are."""
    return new_stores()


def column(stores: Stores, name: str) -> np.ndarray:
    return stores.matrix.values[:, SCHEMA.position(name)]


def test_list_tells_every_feature_with_kind_range_categories_protection_and_tags(stores) -> None:
    [view] = stores.data("list", "user_features")
    assert [feature["feature"] for feature in view["features"]] == list(SCHEMA.names)
    age, workclass = view["features"][:2]
    assert (age["kind"], age["valid_range"], age["protected"]) == ("integer", [0, 120], True)
    assert age["tags"] == {"team": "ml-platform"}
    assert workclass["categories"][:2] == ["Private", "Self-emp-not-inc"]
    lines = stores.run("list").splitlines()
    assert lines[0].startswith("user_features: 47 features of user_id, version ")
    assert lines[2].split()[:5] == ["age", "integer", "0", "to", "120"]
    assert len({line.index(" team=ml-platform") for line in lines[2:49]}) == 1


def test_describe_tells_inputs_dependants_layout_source_and_versions(stores) -> None:
    told = stores.data("describe", "user_features:age_hours")
    assert told["inputs"] == ["age", "hours_per_week"]
    place = SCHEMA.position("age_hours")
    assert told["position"] == place
    assert told["online_bytes"].startswith(f"{32 + 4 * place} to {36 + 4 * place} of ")
    assert told["offline_column"].endswith(".age_hours integer")
    assert "def age_hours(" in told["source"]
    assert told["versions"][0]["state"] == "current"
    age = stores.data("describe", "age")
    assert "age_hours" in age["dependants"]
    activity = stores.data("describe", "has_capital_activity")
    assert activity["inputs"] == ["has_capital_gain", "has_capital_loss"]
    assert activity["all_inputs"][:2] == ["capital_gain", "capital_loss"]
    gain = stores.data("describe", "capital_gain")
    assert "has_capital_activity" not in gain["dependants"]
    assert "has_capital_activity" in gain["all_dependants"]
    assert "this code" in stores.run("describe", "user_features")


def test_describe_works_without_a_database(stores) -> None:
    environment = stores.environment | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    text = replace(stores, environment=environment).run("describe", "age")
    assert "Age at the time of the census." in text
    assert "PostgreSQL refused or went away" in text


def test_stats_are_those_of_the_stored_values(stores) -> None:
    by_name = {each["feature"]: each for each in stores.data("stats")["features"]}
    assert list(by_name) == list(SCHEMA.names)
    values = column(stores, "age").astype(np.float64)
    known, age = values[~np.isnan(values)], by_name["age"]
    assert age["null_rate"] == pytest.approx(np.isnan(values).mean())
    assert age["mean"] == pytest.approx(known.mean())
    assert age["std"] == pytest.approx(known.std(ddof=1))
    assert age["q05"] == pytest.approx(np.quantile(known, 0.05))
    assert age["q50"] == pytest.approx(np.quantile(known, 0.5))
    assert (age["min"], age["max"]) == (known.min(), known.max())
    assert age["distinct"] == len(np.unique(known))

    codes, work = column(stores, "workclass"), by_name["workclass"]
    assert work["null_rate"] == pytest.approx((codes == 0).mean())
    assert work["unseen_rate"] == pytest.approx((codes == 1).mean())
    assert work["distinct"] == len(np.unique(codes[codes > 1]))
    word, share = next(iter(work["top"].items()))
    code = MODEL_VIEW.definitions["workclass"].codes[word]
    assert share == pytest.approx((codes == code).mean())
    assert share == max((codes == each).mean() for each in range(2, 10))


def test_stats_tell_how_fresh_each_feature_is(stores) -> None:
    [age] = stores.data("stats", "--feature", "age")["features"]
    given = stores.matrix.times[~np.isnan(column(stores, "age"))]
    newest = given.max().astype(datetime).replace(tzinfo=UTC)
    assert datetime.fromisoformat(age["newest_event"]) == newest
    assert datetime.fromisoformat(age["newest_created"]) == CREATED
    since = (datetime.now(UTC) - newest).total_seconds()
    assert age["newest_event_age"] == pytest.approx(since, abs=60)


def test_get_shows_the_online_row_with_its_times_and_version(stores) -> None:
    row = stores.data("get", "--user-id", "7")
    assert row["values"] == SCHEMA.decode(stores.matrix.values[6])
    assert row["event_time"] == "2026-01-01T07:00:00+00:00"
    assert row["created_time"] == CREATED.isoformat()
    assert row["version"] == SCHEMA.fingerprint
    assert row["age"] > 0
    lines = stores.run("get", "--user-id", "7").splitlines()
    assert lines[0] == "user_features of user_id 7"
    assert any(line.startswith("event time") and "2026-01-01 07:00:00" in line for line in lines)


def test_history_tells_what_changed_from_row_to_row(new_stores: Callable[[], Stores]) -> None:
    stores = new_stores()
    values = stores.matrix.values[6:7].copy()
    values[0, SCHEMA.position("age")] = 41
    row = replace(stores.matrix.rows(np.array([6])), values=values)
    stores.offline.append(row, MODEL_VIEW.entity, CREATED + timedelta(days=1))
    told = stores.data("history", "--user-id", "7")
    before = SCHEMA.decode(stores.matrix.values[6])["age"]
    assert [each["changes"] for each in told["rows"]] == [{}, {"age": [before, 41]}]
    assert [each["created_time"][:10] for each in told["rows"]] == ["2026-01-20", "2026-01-21"]
    assert "→ 41" in stores.run("history", "--user-id", "7")


def test_stores_that_agree_validate(stores) -> None:
    told = stores.data("validate")
    assert told["findings"] == []
    assert (told["offline_rows_checked"], told["online_rows_compared"]) == (300, 300)
    assert 20 < stores.data("validate", "--sample", "50")["online_rows_compared"] < 100


def test_validate_finds_what_was_altered_and_exits_with_1(new_stores: Callable[[], Stores]) -> None:
    stores = new_stores()
    table = stores.offline.table(SCHEMA)
    with stores.offline.postgres.transaction() as connection:
        connection.execute(f"UPDATE {table} SET age = 200 WHERE user_id = 3")
        connection.execute(f"UPDATE {table} SET workclass = 77 WHERE user_id = 4")
    stores.online.client.delete(stores.online.key(5))
    newer = replace(stores.matrix, times=stores.matrix.times + np.timedelta64(1, "D"))
    stores.online.write(newer.rows(np.array([9])), CREATED)
    stores.offline.append(newer.rows(np.array([19, 20])), MODEL_VIEW.entity, CREATED)

    ended = stores.start("validate", "--json")
    assert (ended.returncode, ended.stderr) == (1, "")
    found = {each["check"]: each for each in json.loads(ended.stdout)["findings"]}
    assert {check: each["rows"] for check, each in found.items()} == {
        "age is not valid": 1,
        "workclass is not valid": 1,
        "row was altered": 2,
        "online values differ from the offline ones": 2,
        "entity is missing online": 1,
        "online row is not in the offline store": 1,
        "online row is older than the offline one": 2,
    }
    assert found["age is not valid"]["first"] == (
        "user_id 3 at 2026-01-01T03:00:00: 200, expected 0 to 120 years"
    )


def test_versions_are_listed_switched_and_dropped(new_stores: Callable[[], Stores]) -> None:
    stores = new_stores()
    smaller = OnlineStore(stores.online.client, stores.environment["FTI_FEATURE__PROJECT"], SMALLER)
    matrix = replace(stores.matrix, values=stores.matrix.values[:, :-1].copy(), schema=SMALLER)
    versions.start_fill(stores.offline, smaller, MODEL_VIEW.entity)
    stores.offline.append(matrix, MODEL_VIEW.entity, CREATED)
    smaller.write(matrix.rows(np.arange(10)), CREATED)  # killed here

    newest, old = stores.data("versions")
    assert (newest["state"], old["state"]) == ("filling", "current")
    assert newest["changes_to_this_code"] == [f"'{SCHEMA.names[-1]}' is new"]
    assert (newest["is_defined_here"], old["is_defined_here"]) == (False, True)
    stores.run("switch-version", "user_features", SMALLER.fingerprint[:8])
    assert smaller.read(300).key == 300
    assert stores.data("get", "--user-id", "7", "--version", SMALLER.fingerprint[:8])["values"]
    with pytest.raises(VersionInUse, match="is the current one"):
        stores.run("drop-version", "user_features", SMALLER.fingerprint, "--yes")

    text = stores.run("drop-version", "user_features", SCHEMA.fingerprint, "--yes")
    assert "and 300 online rows" in text
    assert [each["state"] for each in stores.data("versions")] == ["current"]
    with pytest.raises(UnknownVersion, match="is no version of 'user_features'"):
        stores.run("stats", "--version", SCHEMA.fingerprint)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["describe", "user_features:agee"], UnknownFeature, r"Did you mean 'age'\?"),
        (["describe", "user_featurs"], UnknownFeature, r"Did you mean 'user_features'\?"),
        (["stats", "--feature", "agee"], UnknownFeature, r"Did you mean 'age'\?"),
        (["list", "user_featurs"], UnknownFeature, r"Did you mean 'user_features'\?"),
        (["get", "--user-id", "400"], EntityNotFound, r"user_features 400\. Did you mean 300\?"),
        (["history", "--user-id", "-1"], EntityNotFound, r"user_features -1\. Did you mean 1\?"),
        (["get", "--user-id", "7", "--view", "users"], UnknownFeature, "View 'users' is not def"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(stores, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        stores.run(*arguments)


def test_an_error_is_one_line_on_stderr_and_exit_1(stores) -> None:
    ended = stores.start("--json", "get", "--user-id", "400")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "✗ No online features for user_features 400. Did you mean 300?\n"


def test_nothing_but_json_is_printed_and_the_option_may_come_first(stores) -> None:
    ended = stores.start("--json", "versions")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)[0]["fingerprint"] == SCHEMA.fingerprint


def test_a_terminal_gets_drawn_tables(stores) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "feature_store", "versions"],
        cwd=ROOT,
        stdout=theirs,
        env={**os.environ, **stores.environment, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):
        while block := os.read(ours, 65_536):
            shown += block
    os.close(ours)
    assert process.wait() == 0
    assert "┃" in shown.decode()
    assert "└──" in shown.decode()


def test_help_has_examples_and_starts_at_once(stores) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = stores.start("--help").stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert spent < 1.0  # half a second on a processor of its own
    for command in ("list", "describe", "stats", "get", "history", "validate", "versions"):
        assert command in text
    assert "get --key 12345" in stores.start("get", "--help").stdout
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "feature_store", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    for slow in ("numpy", "polars", "pydantic", "psycopg", "redis", "feast"):
        assert f"| {slow}\n" not in imported.replace("  ", "")
