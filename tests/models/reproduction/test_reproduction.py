"""Trainings repeated from their record: equal, or with what differs."""

import json
import re

import pytest

from models import connect
from models.errors import TrainingRefused
from models.families import FAMILIES
from models.lineage import config_of, settings_of
from models.reproduction.reproduction import NotReproduced, Reproduction, common
from tests.worlds.models import World


@pytest.mark.full
def test_a_version_is_trained_anew_with_equal_metrics_and_bits(world: World):
    version = world.train()
    world.correct_later(10)  # rows that were appended since do not matter
    ended = world.start("pipelines/training_pipeline.py", "--reproduce", version.label)
    printed, errors = ended.communicate(timeout=300)

    assert ended.returncode == 0, errors
    assert re.search(rf"✓ Reproduced {version.label}: \d+ metrics are equal", printed)
    assert "largest difference 0.0e+00" in printed
    assert "held-out rows are equal to the bit" in printed
    assert [each.label for each in world.registry.versions()] == [version.label]


@pytest.mark.full
def test_so_is_one_without_protected_features(world: World):
    version = world.train(exclude_protected=True)
    ended = world.start("pipelines/training_pipeline.py", "--reproduce", version.label)
    printed, errors = ended.communicate(timeout=300)
    assert ended.returncode == 0, errors
    assert "held-out rows are equal to the bit" in printed


@pytest.mark.full
def test_what_differs_is_named_and_the_command_fails(world: World):
    version = world.train()
    world.registry.set_tags(version, {"code_version": "0" * 64, "packages": '{"numpy": "1.0"}'})
    with connect.postgres(world.settings)() as connection:
        connection.execute("UPDATE labels SET label = 1 - label WHERE user_id % 3 = 0")
    ended = world.start("pipelines/training_pipeline.py", "--reproduce", version.label)
    _, errors = ended.communicate(timeout=300)

    assert ended.returncode == 1
    assert re.search(rf"✗ {version.label} was not reproduced: \w+ was [\d.]+ and is [\d.]+", errors)
    assert re.search(r"data: digest \w{12}… → \w{12}… \(4,000 rows now\)", errors)
    assert "code: commit" in errors
    assert "package numpy: 1.0 → " in errors
    assert errors.count("\n") == 1


def test_metrics_may_differ_by_less_than_a_billionth():
    same = Reproduction("v1", (), {"accuracy": (0.5, 0.5 + 5e-10)}, True)
    same.refuse_different()
    other = Reproduction("v1", (), {"accuracy": (0.5, 0.5), "brier": (0.1, 0.1 + 2e-9)}, False)
    with pytest.raises(NotReproduced, match=r"brier was 0\.1 .* nothing that is recorded"):
        other.refuse_different()


def test_without_recorded_metrics_nothing_is_proven():
    with pytest.raises(NotReproduced, match="was its run deleted"):
        common({"other": 1.0}, {"accuracy": 1.0})


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_come_back_as_they_were(training, family):
    config = training.model_copy(update={"model": family})
    again = config_of(json.loads(json.dumps(settings_of(config))))
    do_not_matter = {*FAMILIES, "gates", "tuning"} - {family}
    assert again == config.model_copy(update={name: getattr(again, name) for name in do_not_matter})


def test_settings_that_this_code_does_not_know_are_refused(training):
    settings = settings_of(training)
    settings["params"] = {"trees": 3}
    with pytest.raises(TrainingRefused, match=r"are not those of this code: .*trees"):
        config_of(settings)
