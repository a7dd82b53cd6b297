import json

import pytest

from feature_store.errors import StoreUnavailable
from models.artifact_cache import MlflowFiles
from models.deployment import Deployment, deploy, start_ab_test
from serving.errors import ModelUnusable, NothingDeployed
from serving.live import DeploymentWatcher
from serving.model_loader import ModelLoader
from tests.serving.worlds import artifact_server, now


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


@pytest.fixture
def new_watcher(records, artifacts, tmp_path):
    def new_watcher() -> DeploymentWatcher:
        loader = ModelLoader(tmp_path / "cache", MlflowFiles(lambda: artifacts.url))
        last_good = tmp_path / "serving" / "current.json"
        return DeploymentWatcher(records, loader, last_good, "onnx")

    return new_watcher


def labels(watcher) -> list[str]:
    return [arm.arm.label for arm in watcher.require().arms]


def test_nothing_deployed_says_which_command_to_run(new_watcher):
    watcher = new_watcher()
    watcher.poll()

    with pytest.raises(NothingDeployed, match=r"python pipelines/deployment.py --model-name LABEL"):
        watcher.require()


def test_a_new_deployment_becomes_live(new_watcher, records, artifacts):
    watcher = new_watcher()
    records.deploy(artifacts.arm(1))
    watcher.poll()
    before = watcher.require()
    records.deploy(artifacts.arm(2))
    watcher.poll()

    assert labels(watcher) == ["income-xgb-v2"]
    assert before.arms[0].arm.label == "income-xgb-v1"  # who holds the old one keeps it
    assert watcher.swaps == 2


def test_an_ab_test_loads_only_the_challenger(new_watcher, records, artifacts):
    watcher = new_watcher()
    records.deploy(artifacts.arm(1))
    watcher.poll()
    champion = watcher.require().arms[0].model
    records.start_ab_test(artifacts.arm(2))
    watcher.poll()

    first, second = watcher.require().arms
    assert first.model is champion
    assert (first.context.propensity, second.context.propensity) == (0.9, 0.1)
    assert second.context.scored[0].model_version == "income-xgb-v2"
    assert second.context.experiment == "income-xgb-v2-vs-income-xgb-v1-g2"


def test_a_deployment_that_cannot_be_staged_changes_nothing(new_watcher, records, artifacts):
    watcher = new_watcher()
    records.deploy(artifacts.arm(1))
    watcher.poll()
    bad = artifacts.arm(2)
    (artifacts.folder / "2" / "model" / "model.onnx").write_bytes(b"altered")
    records.deploy(bad)

    with pytest.raises(ModelUnusable, match="was altered"):
        watcher.poll()
    fetched = len(artifacts.requests)
    with pytest.raises(ModelUnusable, match="was altered"):
        watcher.poll()
    assert len(artifacts.requests) == fetched  # it is not fetched again at every look
    assert labels(watcher) == ["income-xgb-v1"]

    records.deploy(artifacts.arm(3))
    watcher.poll()
    assert labels(watcher) == ["income-xgb-v3"]


def test_what_is_live_stays_when_the_record_is_gone(new_watcher, records, artifacts):
    watcher = new_watcher()
    records.deploy(artifacts.arm(1))
    watcher.poll()
    records.is_gone = True

    with pytest.raises(StoreUnavailable):
        watcher.poll()
    assert labels(watcher) == ["income-xgb-v1"]


def test_what_served_last_is_restored_when_the_record_is_gone(new_watcher, records, artifacts):
    records.deploy(artifacts.arm(1))
    new_watcher().poll()
    records.is_gone = True
    restarted = new_watcher()

    with pytest.raises(StoreUnavailable):
        restarted.poll()
    assert labels(restarted) == ["income-xgb-v1"]

    records.is_gone = False
    records.deploy(artifacts.arm(2))
    restarted.poll()
    assert labels(restarted) == ["income-xgb-v2"]


def test_without_record_and_memory_nothing_is_live(new_watcher, records):
    records.is_gone = True
    watcher = new_watcher()

    with pytest.raises(StoreUnavailable):
        watcher.poll()
    assert watcher.live is None
    with pytest.raises(StoreUnavailable):
        watcher.require()


@pytest.mark.parametrize("content", ["", "{}", "null", '{"arms": [{}]}'])
def test_a_damaged_memory_is_reported_and_not_fatal(
    new_watcher, records, content, tmp_path, caplog
):
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "current.json").write_text(content)
    records.is_gone = True
    watcher = new_watcher()

    with pytest.raises(StoreUnavailable):
        watcher.poll()
    assert watcher.live is None
    assert "cannot be restored" in caplog.text


def test_what_is_live_is_remembered_on_the_disk(new_watcher, records, artifacts, tmp_path):
    records.deploy(artifacts.arm(1))
    new_watcher().poll()

    remembered = json.loads((tmp_path / "serving" / "current.json").read_text())
    assert Deployment.from_dict(remembered) == records.current()
