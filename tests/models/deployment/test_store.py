import threading
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from feature_store.errors import StoreUnavailable
from infrastructure import embedded
from models.deployment.record import Arm, deploy
from models.deployment.store import DeploymentStore, StageChange
from models.errors import DeploymentConflict, RegistryUnavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHANGE = StageChange(1, "xgb-v1", ("None", "Staging", "Production"), "first", NOW)


def arm(version: int) -> Arm:
    return Arm("champion", version, f"xgb-v{version}", f"mlflow-artifacts:/{version}", "d" * 64)


@pytest.fixture
def new_store(settings):
    url, name = embedded.postgres_url(settings), f"model-{uuid4()}"
    stores = []

    def new_store() -> DeploymentStore:
        stores.append(DeploymentStore(lambda: psycopg.connect(url), name))
        return stores[-1]

    yield new_store
    for store in stores:
        store.close()


def test_nothing_is_deployed_before_the_first_record(new_store):
    store = new_store()

    assert (store.generation(), store.current(), store.history()) == (0, None, [])
    assert store.stage_history() == []


def test_the_newest_record_is_current_and_the_others_its_history(new_store):
    first = deploy(None, arm(1), NOW)
    second = deploy(first, arm(2), NOW)
    store = new_store()
    for record in (first, second):
        with store.recording(record, []):
            pass

    assert new_store().current() == second
    assert new_store().history() == [first, second]
    assert new_store().generation() == 2


def test_stage_changes_are_kept_with_their_whole_path(new_store):
    store = new_store()
    with store.recording(deploy(None, arm(1), NOW), [CHANGE]):
        pass

    assert store.stage_history() == [CHANGE]


def test_nothing_is_recorded_when_the_registry_fails_meanwhile(new_store):
    store = new_store()
    record = deploy(None, arm(1), NOW)
    with pytest.raises(RegistryUnavailable), store.recording(record, [CHANGE]):
        raise RegistryUnavailable("MLflow is gone.")

    assert (store.current(), store.stage_history()) == (None, [])


def test_who_deploys_on_outdated_knowledge_is_told(new_store):
    store = new_store()
    with store.recording(deploy(None, arm(1), NOW), []):
        pass

    late = deploy(None, arm(2), NOW)
    with (
        pytest.raises(DeploymentConflict, match="generation 1 is recorded"),
        store.recording(late, []),
    ):
        pass

    assert store.current().champion.label == "xgb-v1"


def test_of_many_deployments_at_once_one_wins(new_store):
    won = []

    def promote(version: int) -> None:
        store = new_store()
        with suppress(DeploymentConflict), store.recording(deploy(None, arm(version), NOW), []):
            won.append(version)

    threads = [threading.Thread(target=promote, args=(version,)) for version in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert [record.champion.version for record in new_store().history()] == won


def test_a_database_that_is_gone_is_one_clear_line():
    store = DeploymentStore(
        lambda: psycopg.connect("postgresql://127.0.0.1:1/x", connect_timeout=1), "model"
    )

    with pytest.raises(StoreUnavailable, match=r"PostgreSQL refused or went away: .*make status"):
        store.current()


def test_a_broken_connection_is_replaced(new_store):
    store = new_store()
    assert store.generation() == 0
    with suppress(psycopg.Error):
        store._connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with suppress(StoreUnavailable):
        store.generation()
    assert store.generation() == 0
