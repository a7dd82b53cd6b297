import os
from dataclasses import replace

import numpy as np
import pytest

from feature_store.errors import StoreUnavailable
from models.artifact.cache import MlflowFiles
from models.deployment.ab_tests import start_ab_test
from models.deployment.record import Deployment, deploy
from serving.deployment.current_file import AgentFile, CurrentFile, RestageRequest
from serving.deployment.live import DeploymentFollower
from serving.deployment.stager import DeploymentStaging
from serving.errors import DeploymentUnusable, ModelUnusable, NothingDeployed
from serving.model_loader import ModelLoader
from tests.worlds.artifacts import artifact_server
from tests.worlds.serving import now


class Records:
    """A record of deployments that can go away."""

    def __init__(self) -> None:
        self.records: list[Deployment] = []
        self.is_gone = False

    def generation(self) -> int:
        if self.is_gone:
            raise StoreUnavailable("PostgreSQL is gone.")
        return len(self.records)

    def current(self) -> Deployment | None:
        return self.records[-1] if self.records else None

    def deploy(self, arm) -> None:
        self.records.append(deploy(self.current(), arm, now()))

    def start_ab_test(self, arm) -> None:
        self.records.append(start_ab_test(self.current(), arm, 0.1, "salt", now()))


@pytest.fixture
def artifacts(tmp_path):
    with artifact_server(tmp_path / "kept") as artifacts:
        yield artifacts


@pytest.fixture
def records():
    return Records()


class Host:
    """One agent and its workers, all on one disk."""

    def __init__(self, records, artifacts, folder) -> None:
        self.cache = folder / "cache"
        self.current = CurrentFile(folder / "serving" / "current.json")
        self.files = (
            self.current,
            AgentFile(folder / "serving" / "agent.json"),
            RestageRequest(folder / "serving" / "restage"),
        )
        self.loader = ModelLoader(self.cache, MlflowFiles(lambda: artifacts.url))
        self.agent = DeploymentStaging(records, self.loader, *self.files)
        self.worker = self.new_worker()

    def new_worker(self) -> DeploymentFollower:
        return DeploymentFollower(*self.files, self.loader, "onnx")

    def poll(self) -> None:
        self.agent.poll()
        self.worker.poll()


@pytest.fixture
def host(records, artifacts, tmp_path):
    return Host(records, artifacts, tmp_path)


def labels(follower) -> list[str]:
    return [arm.arm.label for arm in follower.require().arms]


def test_nothing_deployed_says_which_command_to_run(host):
    host.poll()

    with pytest.raises(NothingDeployed, match=r"python pipelines/deployment.py --model-name LABEL"):
        host.worker.require()


def test_a_new_deployment_becomes_live(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    before = host.worker.require()
    records.deploy(artifacts.arm(2))
    host.poll()

    assert labels(host.worker) == ["income-xgb-v2"]
    assert before.arms[0].arm.label == "income-xgb-v1"  # who holds the old one keeps it
    assert host.worker.swaps == 2


def test_a_deployment_is_staged_before_it_is_activated(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    records.deploy(artifacts.arm(2))
    host.worker.poll()
    assert labels(host.worker) == ["income-xgb-v1"]

    host.agent.poll()
    artifacts.url = "http://127.0.0.1:1"  # workers fetch nothing
    host.worker.poll()
    assert labels(host.worker) == ["income-xgb-v2"]
    assert labels_of_new_worker(host) == ["income-xgb-v2"]


def labels_of_new_worker(host) -> list[str]:
    worker = host.new_worker()
    worker.poll()
    return labels(worker)


def test_an_ab_test_loads_only_the_challenger(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    champion = host.worker.require().arms[0].model
    records.start_ab_test(artifacts.arm(2))
    host.poll()

    first, second = host.worker.require().arms
    assert first.model is champion
    assert (first.context.propensity, second.context.propensity) == (0.9, 0.1)
    assert second.context.scored[0].model_version == "income-xgb-v2"
    assert second.context.experiment == "income-xgb-v2-vs-income-xgb-v1-g2"


def test_a_deployment_that_cannot_be_staged_changes_nothing(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    bad = artifacts.arm(2)
    (artifacts.folder / "2" / "model" / "model.onnx").write_bytes(b"altered")
    records.deploy(bad)

    with pytest.raises(ModelUnusable, match="was altered"):
        host.agent.poll()
    fetched = len(artifacts.requests)
    with pytest.raises(ModelUnusable, match="was altered"):
        host.agent.poll()
    assert len(artifacts.requests) == fetched  # it is not fetched again at every look
    host.worker.poll()
    assert labels(host.worker) == ["income-xgb-v1"]

    records.deploy(artifacts.arm(3))
    host.poll()
    assert labels(host.worker) == ["income-xgb-v3"]


def test_a_deployment_that_leaves_traffic_to_nobody_is_refused(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    records.records.append(
        replace(records.current(), generation=2, arms=(artifacts.arm(2).over(0, 9_999),))
    )

    with pytest.raises(DeploymentUnusable, match=r"does not share out .*v2 0–9999\. Deploy again"):
        host.agent.poll()
    host.worker.poll()
    assert labels(host.worker) == ["income-xgb-v1"]


def test_what_served_last_is_served_when_record_and_registry_are_gone(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    records.is_gone, artifacts.url = True, "http://127.0.0.1:1"

    with pytest.raises(StoreUnavailable):
        host.agent.poll()
    host.worker.poll()
    assert labels(host.worker) == ["income-xgb-v1"]
    assert labels_of_new_worker(host) == ["income-xgb-v1"]


def test_without_record_and_memory_nothing_is_live_and_the_reason_is_said(host, records):
    records.is_gone = True
    with pytest.raises(StoreUnavailable):
        host.agent.poll()
    host.worker.poll()

    with pytest.raises(NothingDeployed, match="PostgreSQL is gone"):
        host.worker.require()


@pytest.mark.parametrize("content", ["", "{}", "null", '{"arms": [{}]}', "[" * 100_000])
def test_a_damaged_file_is_reported_and_written_anew(host, records, artifacts, content, caplog):
    records.deploy(artifacts.arm(1))
    host.poll()
    host.current.path.write_text(content)
    worker = host.new_worker()
    worker.poll()
    host.worker.poll()

    with pytest.raises(NothingDeployed, match=r"current\.json cannot be used"):
        worker.require()
    assert labels(host.worker) == ["income-xgb-v1"]  # who has it in memory serves on
    host.poll()
    assert host.current.read() == records.current()
    assert labels_of_new_worker(host) == ["income-xgb-v1"]


def test_a_model_damaged_on_the_disk_is_not_loaded_and_fetched_again(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    [model] = host.cache.glob("*/model.onnx")
    model.write_bytes(b"damaged")
    worker = host.new_worker()
    worker.poll()
    with pytest.raises(NothingDeployed, match="was altered"):
        worker.require()

    host.agent.poll()
    assert labels_of_new_worker(host) == ["income-xgb-v1"]


def mutations(content: bytes, n: int, seed: int) -> list[bytes]:
    """Copies with bytes flipped, cut out, put in, cut off; none equals the original."""
    draw, mutated = np.random.default_rng(seed), []
    while len(mutated) < n:
        copy = bytearray(content)
        for _ in range(draw.integers(1, 4)):
            place, length = int(draw.integers(len(copy))), int(draw.integers(1, 9))
            change = draw.bytes(length)
            end = [place + length, place, len(copy)][draw.integers(3)]
            copy[place:end] = change if draw.random() < 0.7 else b""
            copy = copy or bytearray(b"x")
        if bytes(copy) != content:
            mutated.append(bytes(copy))
    return mutated


@pytest.mark.parametrize(
    ("name", "n"), [("model.onnx", 200), ("manifest.json", 50), ("current.json", 200)]
)
def test_no_mutated_file_is_ever_served(host, records, artifacts, name, n):
    records.deploy(artifacts.arm(1))
    host.agent.poll()
    [path] = [*host.cache.glob(f"*/{name}"), *host.current.path.parent.glob(name)]
    sound = path.read_bytes()
    served = []
    for mutated in mutations(sound, n, seed=7):
        path.write_bytes(mutated)
        worker = host.new_worker()
        worker.poll()
        served += [mutated] if worker.live and worker.live.deployment != records.current() else []
        if name != "current.json":
            assert worker.live is None
    path.write_bytes(sound)

    assert served == []
    assert labels_of_new_worker(host) == ["income-xgb-v1"]


def test_the_record_out_of_reach_for_long_leaves_what_is_live_unconfirmed(host, records, artifacts):
    records.deploy(artifacts.arm(1))
    host.poll()
    assert host.worker.is_confirmed

    long_ago = host.worker._started_at - 3600
    host.worker._started_at = long_ago
    report = AgentFile(host.files[1].path)
    report.write(replace(report.read(), confirmed_at=long_ago))
    os.utime(report.path, ns=(0, 0))
    host.worker.poll()
    assert not host.worker.is_confirmed
    host.agent._reported_at = 0.0
    host.poll()
    assert host.worker.is_confirmed
