"""What stock MLflow clients do to the registry: adopted through the gates, or put back."""

import re
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress

import httpx
import pytest
from mlflow import MlflowClient

from models import connect
from models.errors import DeploymentConflict
from models.lifecycle.watch import RegistryWatch
from tests.worlds.models import POOR, World


@pytest.fixture
def client(world: World) -> MlflowClient:
    """The stock client."""
    url = str(world.settings.mlflow_tracking_uri)
    return MlflowClient(url, url)


@pytest.fixture
def watch(world: World) -> RegistryWatch:
    return connect.registry_watch(world.settings, world.promoter)


def move(client, version, stage, *, archive=False) -> None:
    """Move a version as people did before aliases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(
            _name(version), str(version.version), stage, archive_existing_versions=archive
        )


def point(client, alias, version) -> None:
    client.set_registered_model_alias(_name(version), alias, str(version.version))


def _name(version) -> str:
    return version.label.rpartition("-xgb-")[0] + "-predictor"


def stages(world) -> dict[int, str]:
    """The stage of each version; the tag and MLflow's own agree."""
    found = {}
    for each in world.registry.versions():
        assert each.stage == each.native_stage
        found[each.version] = each.stage
    return found


def test_nothing_is_done_while_nothing_was_changed(world, watch):
    world.train()
    assert watch.poll() == []
    world.promoter.deploy(world.registry.versions()[0])
    assert watch.poll() == []


@pytest.mark.full
def test_an_alias_deploys_a_version_that_passes_the_gates(world, watch, client):
    first, second = world.train(), world.train(seed=102, n_estimators=60)
    point(client, "production", first)
    watch.poll()
    assert world.served == [first.label]
    point(client, "production", second)
    [request] = watch.poll()

    assert request.kind == "deploy"
    assert world.served == [second.label]
    assert stages(world) == {1: "Archived", 2: "Production"}
    assert world.registry.aliases() == {"production": 2}
    note = world.registry.find(second.label).tags["lifecycle"]
    assert "alias production set by an MLflow client: adopted" in note
    assert watch.poll() == []


def test_a_stage_deploys_a_version_and_archives_the_champion(world, watch, client):
    first, second = world.train(), world.train(seed=102, n_estimators=60)
    world.promoter.deploy(first)
    move(client, second, "Production", archive=True)
    watch.poll()

    assert world.served == [second.label]
    assert stages(world) == {1: "Archived", 2: "Production"}
    store = world.promoter.store
    assert store.current().reason == "moved to Production by an MLflow client"
    assert watch.poll() == []


@pytest.mark.parametrize("by", ["alias", "stage", "tag"])
def test_a_version_that_fails_is_put_back_with_the_reason(world, watch, client, by, caplog):
    good, poor = world.train(), world.train(**POOR)
    world.promoter.deploy(good)
    if by == "alias":
        point(client, "production", poor)
    elif by == "stage":
        move(client, poor, "Production", archive=True)
    else:
        client.set_model_version_tag(_name(poor), str(poor.version), "stage", "Production")
    watch.poll()

    assert world.served == [good.label]
    assert stages(world) == {1: "Production", 2: "None"}
    assert world.registry.aliases() == {"production": 1}
    assert re.search(
        r"put back, because .* may not leave None: .*log_loss: .* worse than",
        world.registry.find(poor.label).tags["lifecycle"],
    )
    change = world.promoter.store.stage_history()[-1]
    assert (change.label, change.path) == (poor.label, ("None", "Production", "None"))
    assert "put back, because" in change.reason
    assert "put back, because" in caplog.text
    assert watch.poll() == []


def test_the_alias_of_what_serves_cannot_be_taken_away(world, watch, client):
    version = world.train()
    world.promoter.deploy(version)
    client.delete_registered_model_alias(_name(version), "production")
    watch.poll()

    assert world.registry.aliases() == {"production": 1}
    note = world.registry.find(version.label).tags["lifecycle"]
    assert "put back, because something must serve" in note


def test_the_alias_of_the_challenger_begins_and_ends_a_test(world, watch, client):
    champion, other = world.train(), world.train(seed=102, n_estimators=60)
    world.promoter.deploy(champion)
    point(client, "challenger", other)
    watch.poll()
    assert world.served == [champion.label, other.label]
    assert stages(world)[2] == "Production"

    client.delete_registered_model_alias(_name(other), "challenger")
    watch.poll()
    assert world.served == [champion.label]
    assert stages(world) == {1: "Production", 2: "Archived"}


def test_staging_asks_the_gates_and_archiving_does_not(world, watch, client):
    good, poor = world.train(), world.train(**POOR)
    move(client, good, "Staging")
    move(client, poor, "Staging")
    watch.poll()
    assert stages(world) == {1: "Staging", 2: "None"}
    move(client, poor, "Archived")
    watch.poll()
    assert stages(world) == {1: "Staging", 2: "Archived"}


def test_a_version_from_elsewhere_cannot_serve(world, watch, client):
    ours = world.train()
    world.promoter.deploy(ours)
    source = f"{client.get_run(ours.run_id).info.artifact_uri}/model"
    foreign = client.create_model_version(_name(ours), source, ours.run_id)
    client.set_registered_model_alias(_name(ours), "production", foreign.version)
    watch.poll()

    assert world.registry.aliases() == {"production": 1}
    assert "nothing to serve" in world.promoter.store.stage_history()[-1].reason


def test_a_deployment_under_way_is_not_taken_for_a_wish(world, watch):
    """While one deploys, the registry shows half of it; the watch waits."""
    first, second = world.train(), world.train(seed=102, n_estimators=60)
    promoter = connect.promoter(world.settings)
    promoter.deploy(first)
    polled: list[object] = []
    stop = threading.Event()

    def keep_polling() -> None:
        while not stop.is_set():
            with suppress(DeploymentConflict):
                polled.extend(watch.poll())

    thread = threading.Thread(target=keep_polling)
    thread.start()
    for _ in range(3):
        promoter.deploy(second)
        promoter.roll_back()
    stop.set()
    thread.join()

    assert polled == []
    assert world.served == [first.label]


@pytest.mark.full
def test_the_service_answers_within_seconds_and_ends_when_told(world, client):
    good, poor = world.train(), world.train(**POOR)
    port = "18473"
    process = world.start("-m", "models", "watch", "--port", port)
    try:
        _until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200)
        began = time.monotonic()
        point(client, "production", good)
        _until(lambda: world.registry.find(good.label).native_stage == "Production")
        assert time.monotonic() - began < 10
        began = time.monotonic()
        move(client, poor, "Production")
        _until(lambda: "put back" in world.registry.find(poor.label).tags.get("lifecycle", ""))
        assert time.monotonic() - began < 30  # it is judged anew: the champion is another
    finally:
        process.terminate()
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"INFO {good.label}: alias production set by an MLflow client: adopted" in log
    assert f"WARNING {poor.label}: moved to Production by an MLflow client: put back" in log


@pytest.mark.full
def test_of_two_processes_that_deploy_at_once_one_wins_and_both_learn_it(world):
    versions = [world.train(), world.train(seed=102, n_estimators=60)]
    program = (
        "import sys\n"
        "from configs.command_line import run, new_app\n"
        "from configs.settings import load_settings\n"
        "from models import connect\n"
        "promoter = connect.promoter(load_settings())\n"
        "version = promoter.registry.find(sys.argv[1])\n"
        "promoter.store.current()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "app = new_app()\n"
        "@app.command()\n"
        "def deploy(label: str) -> None:\n"
        "    promoter.deploy(version)\n"
        "run(app)\n"
    )
    for _ in range(3):
        processes = [_waiting(world, program, version.label) for version in versions]
        before = world.served
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ended = [process.communicate(timeout=60)[1] for process in processes]
        lost = [each for each, p in zip(ended, processes, strict=True) if p.returncode]

        assert len(lost) <= 1
        assert all("✗ Somebody else deployed meanwhile" in each for each in lost)
        assert world.served != before
        [label] = world.served
        assert world.registry.aliases() == {"production": world.registry.find(label).version}
    history = world.promoter.store.history()
    assert [each.generation for each in history] == list(range(1, len(history) + 1))


def _waiting(world: World, program: str, label: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, label],
        env=world.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _until(is_so, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if is_so():
                return
        time.sleep(0.05)
    raise AssertionError("It did not happen in time.")
