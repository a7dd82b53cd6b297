"""Tuning: one study in a real PostgreSQL, whoever works on it, and whatever happens to them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from configs.settings import ROOT
from feature_store.training_data import TrainingRows
from infrastructure import embedded
from models.errors import StudyUnavailable
from models.lineage import Recipe
from models.training.fit import split_of
from models.training.search_space import SearchSpace, with_params
from models.training.study_store import StudyStore, counts
from models.training.tuning import CrossValidation, study_name, tune
from tests.models.training import tuning_worker
from tests.models.training.tuning_worker import work


@pytest.fixture(scope="module")
def few(rows):
    return TrainingRows(
        rows.features.rows(np.arange(tuning_worker.N_ROWS)), rows.labels[: tuning_worker.N_ROWS]
    )


@pytest.fixture
def url(settings):
    return embedded.postgres_url(settings)


def worker(url: str, seed: int, trials: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.models.training.tuning_worker", url, str(seed), str(trials)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def states(url: str, study: str) -> Counter[str]:
    query = "SELECT state::text FROM tuning.trials JOIN tuning.studies USING (study_id)"
    with psycopg.connect(url) as connection:
        found = connection.execute(f"{query} WHERE study_name = %s", (study,)).fetchall()
    return Counter(state for (state,) in found)


def test_the_settings_are_tried_first_and_the_best_is_no_worse(url, few):
    tuned = work(url, 201, 6, few)
    first = tuned.trials[0]
    standing = tuning_worker.config(201).xgboost
    assert first.params == {name: getattr(standing, name) for name in first.params}
    assert first.params["learning_rate"] == 0.08
    assert tuned.best_value <= first.value
    assert tuned.best_value == min(t.value for t in tuned.trials if not t.was_pruned)
    assert sum(tuned.importance.values()) == pytest.approx(1)
    assert with_params(tuning_worker.config(201), tuned.best).xgboost.max_depth in range(1, 7)


def test_a_finished_study_is_not_begun_again_and_goes_on_for_more(url, few):
    first = work(url, 202, 4, few)
    assert work(url, 202, 4, few) == first
    more = work(url, 202, 6, few)
    assert more.study == first.study
    assert more.trials[:4] == first.trials
    assert len(more.trials) == 6
    drawn = [tuple(trial.params.values()) for trial in more.trials]
    assert len(set(drawn)) == 6  # a study that goes on does not draw the same ones again


def test_a_killed_process_costs_one_trial_which_is_tried_again(url, few):
    doomed = worker(url, 203, 500)
    assert doomed.stdout is not None
    finished = 0
    for line in doomed.stdout:
        finished += int(line.split()[0])
        if finished >= 3:
            break
    doomed.kill()
    doomed.wait()
    doomed.stdout.close()
    study = study_name(*_of(few, 203))
    before = states(url, study)
    assert before["RUNNING"] <= 1
    target = before["COMPLETE"] + before["PRUNED"] + 3
    tuned = work(url, 203, target, few)
    after = states(url, study)
    assert after["COMPLETE"] + after["PRUNED"] == len(tuned.trials) == target
    assert after["RUNNING"] == after["WAITING"] == 0
    assert after["FAIL"] == before["RUNNING"]
    again = [tuple(trial.params.values()) for trial in tuned.trials]
    assert len(set(again)) == target


def test_two_processes_share_a_study_and_no_trial_is_one_too_many(url, few):
    both = [worker(url, 204, 9) for _ in range(2)]
    for each in both:
        each.communicate(timeout=300)
    assert [each.returncode for each in both] == [0, 0]
    found = states(url, study_name(*_of(few, 204)))
    assert found["COMPLETE"] + found["PRUNED"] == 9
    assert set(found) <= {"COMPLETE", "PRUNED"}


def test_a_trial_that_died_before_its_first_sign_of_life_does_not_block_the_study(url, few):
    study = tuning_worker.store(url).study(study_name(*_of(few, 205)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna, which takes asking for an oversight
        study.ask()  # and nothing more, as of a process that was killed right then
    assert len(work(url, 205, 2, few).trials) == 2
    assert counts(study) == (2, 0)


def test_hopeless_trials_are_cut_short(url, few):
    tuned = work(url, 206, 14, few)
    cut = [trial for trial in tuned.trials if trial.was_pruned]
    assert cut
    assert all(len(trial.by_fold) == 1 for trial in cut)
    assert all(trial.number >= tuning_worker.TUNING["warmup_trials"] for trial in cut)


def test_test_rows_have_no_influence_on_any_trial(few, masker):
    config = tuning_worker.config(207)
    split = split_of(few, masker.schema, config)
    turned = replace(split, test=replace(split.test, labels=1 - split.test.labels))
    space = SearchSpace.of(config)

    class Fixed:
        def suggest_float(self, name, low, high, log):
            return 0.3

        def suggest_int(self, name, low, high, log):
            return 3

        def report(self, value, step):
            pass

        def should_prune(self):
            return False

    values = [CrossValidation(each, masker, config, space)(Fixed()) for each in (split, turned)]
    assert values[0] == values[1]
    learned = {row.tobytes() for row in split.train.features.values}
    for parts in CrossValidation(split, masker, config, space).folds:
        for part in parts:
            assert {row.tobytes() for row in part.features.values} <= learned


def test_other_rows_or_another_space_are_another_study(few, masker):
    recipe, config = _of(few, 208)
    fewer = TrainingRows(few.features.rows(np.arange(1_000)), few.labels[:1_000])
    tuning = config.tuning.model_copy(update={"folds": 5})
    names = {
        study_name(recipe, config),
        study_name(Recipe.of(fewer, config), config),
        study_name(recipe, config.model_copy(update={"tuning": tuning})),
    }
    assert len(names) == 3
    assert study_name(recipe, config) == study_name(*_of(few, 208))


def test_a_database_that_is_gone_is_one_line(few, masker):
    recipe, config = _of(few, 209)
    split, gone = split_of(few, masker.schema, config), StudyStore("postgresql://127.0.0.1:9/fti")
    with pytest.raises(StudyUnavailable) as refused:
        tune(gone, split, masker, recipe, config, 3)
    assert "finished trials are kept" in str(refused.value)
    assert "\n" not in str(refused.value)


def _of(rows, seed):
    config = tuning_worker.config(seed)
    return Recipe.of(rows, config), config
