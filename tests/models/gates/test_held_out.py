"""Which rows two models may be compared on, found again from what they recorded."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from models import connect
from models.evaluation.metrics import row_losses
from models.gates.held_out import History, rows_for_both, split_of
from models.onnx.scorer import OnnxScorer
from tests.worlds.models import World


@pytest.fixture(scope="module")
def trained(shared_world: World):
    """The artifacts of two models with seeds of their own, and the rows."""
    versions = shared_world.train(seed=101), shared_world.train(seed=202)
    cache = connect.artifact_cache(shared_world.settings)
    return [cache.get(each.artifact_uri, each.digest) for each in versions]


@pytest.fixture
def history(shared_world: World) -> History:
    return connect.history(shared_world.settings)


def test_the_rows_of_a_training_are_drawn_again_by_their_digest(trained, history):
    drawn = history.rows(trained[0])
    assert drawn.is_same
    assert drawn.dataset.digest == trained[0].config["dataset_digest"]


def test_only_rows_that_neither_learned_from_are_compared(trained, history):
    rows = history.rows(trained[0]).rows
    splits = [split_of(each, rows) for each in trained]
    common = rows_for_both(splits[1].test, trained[0], "v1", history, rows, at_least=50)

    both = np.intersect1d(splits[0].test.features.keys, splits[1].test.features.keys)
    assert sorted(common.features[0].keys) == sorted(both)
    assert f"the {len(both)} of {len(splits[1].test)} held-out rows that neither" in common.about
    learned = np.concatenate([splits[0].train.features.keys, splits[0].validation.features.keys])
    assert not np.isin(common.features[0].keys, learned).any()


def test_with_one_seed_all_held_out_rows_are_compared(trained, history):
    rows = history.rows(trained[0]).rows
    test = split_of(trained[0], rows).test
    common = rows_for_both(test, trained[0], "v1", history, rows, at_least=50)
    assert len(common) == len(test)


def test_with_too_few_rows_the_champion_is_favoured_and_that_is_said(trained, history):
    rows = history.rows(trained[0]).rows
    test = split_of(trained[1], rows).test
    common = rows_for_both(test, trained[0], "v1", history, rows, at_least=1_000)
    assert len(common) == len(test)
    assert "which favours v1: it held out only" in common.about
    assert "training with --seed 101 changes that" in common.about


def test_the_champion_knows_the_rows_that_it_learned_from(trained, history):
    """Why the comparison takes the trouble."""
    rows = history.rows(trained[0]).rows
    splits = [split_of(each, rows) for each in trained]
    scorer = OnnxScorer(trained[0].read("model.onnx"), len(trained[0].features))

    def loss(part) -> float:
        return float(np.mean(row_losses(part.labels, scorer.predict(part.features.values))))

    assert loss(splits[0].train) < loss(splits[0].test) - 0.01


def test_rows_that_came_later_are_left_out(world: World):
    version = world.train()
    artifact = connect.artifact_cache(world.settings).get(version.artifact_uri, version.digest)
    world.correct_later(10)
    history = connect.history(world.settings)

    assert not history.rows(artifact).is_same
    drawn = history.rows(artifact, version.trained_at)
    assert drawn.is_same
    assert drawn.known_by == version.trained_at


def test_a_champion_whose_rows_changed_favours_itself(world: World):
    version = world.train()
    cache = connect.artifact_cache(world.settings)
    artifact = cache.get(version.artifact_uri, version.digest)
    history = connect.history(world.settings)
    other = replace(artifact, files=artifact.files)
    other.config["dataset_digest"] = "0" * 64
    rows = world.rows()
    test = split_of(artifact, rows).test
    common = rows_for_both(test, other, "v1", history, rows, at_least=50)
    assert "what it learned from cannot be drawn again (their digest is" in common.about


def test_a_training_as_known_on_a_past_day_is_drawn_with_the_same_cut(world: World):
    before, known_by = world.rows(), datetime.now(UTC)
    world.correct_later(10)
    version = world.train(known_by=known_by)
    artifact = connect.artifact_cache(world.settings).get(version.artifact_uri, version.digest)
    drawn = connect.history(world.settings).rows(artifact)

    assert drawn.is_same
    assert drawn.known_by == known_by
    assert drawn.rows.labels.tobytes() == before.labels.tobytes()
    assert drawn.rows.features.values.tobytes() == before.features.values.tobytes()
    assert world.rows().labels.tobytes() != before.labels.tobytes()
