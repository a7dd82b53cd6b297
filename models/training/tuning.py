"""Tuning: hyper-parameters chosen by cross-validation inside the training part.

A study is named by all that decides what its trials say: rows, split, family, space. So the same
command finds the same study again, after a crash or beside another process that works on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.training_config import TrainingConfig
from models.evaluation.metrics import log_loss
from models.families import new_model
from models.lineage import Recipe
from models.rows.masking import Masker
from models.rows.split import Part, Split, folds, sampled
from models.training.fit import fit_part
from models.training.search_space import SearchSpace, with_params
from models.training.study_store import StudyStore, counts, mark_begun, translated

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 10
"""Trials that are drawn at random before the sampler has something to learn from."""

KEPT_SHARE = 0.4
"""A trial that is not among this best share of the trials after a fold is cut short. All trials
have the same folds, so their order after one fold is nearly that after all."""

OnTrials = Callable[[int, str], object]
"""Called with how many more trials are finished, and the best so far in words."""


@dataclass(frozen=True)
class FinishedTrial:
    """One trial: its hyper-parameters and the log loss that they reached.

    Parameters
    ----------
    value
        Mean log loss of the folds that were judged; None if it is not finite.
    by_fold
        Mean log loss after each fold.
    was_pruned
        Whether it was cut short because other trials were better at that fold.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    by_fold: tuple[float, ...]
    was_pruned: bool
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class Tuned:
    """What a study found.

    Parameters
    ----------
    best
        The best hyper-parameters, by name.
    importance
        Share of each hyper-parameter in how much the trials differ; empty if too few are finished.
    """

    study: str
    trials: tuple[FinishedTrial, ...]
    best: Mapping[str, Any]
    best_value: float
    importance: Mapping[str, float]


def tune(
    store: StudyStore,
    split: Split,
    masker: Masker,
    recipe: Recipe,
    config: TrainingConfig,
    trials: int,
    on_trials: OnTrials = lambda more, best: None,
) -> Tuned:
    """Run trials until so many are finished in the study, in any process; return the best.

    The configured settings are the first trial, so the best is not worse in these folds.

    Raises
    ------
    TrainingRefused
        If the family has no usable space.
    StudyUnavailable
        If PostgreSQL goes away; finished trials are kept.
    """
    space = SearchSpace.of(config)
    study = store.study(study_name(recipe, config))
    objective = CrossValidation(split, masker, config, space)
    seen = 0
    while True:
        finished = counts(study)[0]
        on_trials(finished - seen, _best_so_far(study))
        seen = finished
        with store.may_begin(study, trials) as begin:
            if begin is None:
                return read_result(study, trials, seen, on_trials)
            _one_trial(study, objective, config, begin)


def study_name(recipe: Recipe, config: TrainingConfig) -> str:
    """Name a study after all that decides what its trials say, but the number of trials."""
    apart = ("experiment_name", "calibration", "decision", "threshold_objective", "evaluation")
    tuning = config.tuning.model_dump(mode="json", exclude={"spaces"})
    decides = {
        "dataset": recipe.dataset.digest,
        "code": recipe.code,
        "settings": {k: v for k, v in recipe.settings.items() if k not in apart},
        "tuning": tuning,
        "space": [
            (n, r.model_dump(mode="json")) for n, r in config.tuning.spaces[config.model].items()
        ],
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return f"{config.model}-{digest[:16]}"


class CrossValidation:
    """The mean log loss of hyper-parameters over the folds of the training part.

    Each fold is judged by a model of the other folds, which stops by the validation rows, as the
    final one does. The test part is not looked at.
    """

    def __init__(
        self, split: Split, masker: Masker, config: TrainingConfig, space: SearchSpace
    ) -> None:
        tuning = config.tuning
        self.config, self.space, self.masker = config, space, masker
        self.masking = config.masking.model_copy(update={"copies": tuning.copies})
        self.validation = split.validation
        rows = sampled(split.train, tuning.rows, config.seed)
        self.folds = list(folds(rows, tuning.folds, config.seed))

    def __call__(self, trial: optuna.Trial) -> float:
        """Judge a trial's hyper-parameters; it is cut short when others did better so far."""
        import optuna

        tried = with_params(self.config, self.space.suggest(trial))
        losses: list[float] = []
        for fold, (learned, judged) in enumerate(self.folds):
            losses.append(self._loss(tried, learned, judged))
            trial.report(float(np.mean(losses)), fold)
            if fold + 1 < len(self.folds) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(losses))

    def _loss(self, tried: TrainingConfig, learned: Part, judged: Part) -> float:
        model = fit_part(
            new_model(tried), learned, self.validation, self.masker, self.masking, tried.seed
        )
        return log_loss(judged.labels, model.predict_proba(self.masker.narrow(judged.features)))


def read_result(study: optuna.Study, trials: int, seen: int, on_trials: OnTrials) -> Tuned:
    """Read what a study found."""
    import optuna

    with translated():
        each_trial = (_finished(trial) for trial in study.get_trials())
        finished = [trial for trial in each_trial if trial is not None]
        on_trials(len(finished) - seen, _best_so_far(study))
        best = study.best_trial
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importance = dict(optuna.importance.get_param_importances(study))
    except (RuntimeError, ValueError):  # fewer than two complete trials
        importance = {}
    return Tuned(study.study_name, tuple(finished), best.params, float(best.value or 0), importance)


def _one_trial(
    study: optuna.Study,
    objective: CrossValidation,
    config: TrainingConfig,
    begin: Callable[[], None],
) -> None:
    import optuna

    tuning = config.tuning
    known = len(study.get_trials(deepcopy=False))
    standing = getattr(config, config.model).model_dump()
    if known == 0 and objective.space.contains(standing):
        study.enqueue_trial({name: standing[name] for name in objective.space.ranges})
    # A seed of its own for every trial: a study that goes on does not draw the same ones again.
    study.sampler = optuna.samplers.TPESampler(
        seed=config.seed + 7919 * known, n_startup_trials=STARTUP_TRIALS
    )
    study.pruner = optuna.pruners.PercentilePruner(
        100 * KEPT_SHARE, n_startup_trials=tuning.warmup_trials, n_min_trials=4
    )

    def begin_and_judge(trial: optuna.Trial) -> float:
        mark_begun(study, trial)
        begin()
        return objective(trial)

    study.optimize(begin_and_judge, n_trials=1)


def _finished(trial: optuna.trial.FrozenTrial) -> FinishedTrial | None:
    import optuna

    state = optuna.trial.TrialState
    if trial.state not in (state.COMPLETE, state.PRUNED):
        return None
    now = datetime.now()  # noqa: DTZ005  (Optuna's times are local ones)
    by_fold = tuple(trial.intermediate_values[step] for step in sorted(trial.intermediate_values))
    value = trial.value if trial.value is not None else (by_fold or (math.nan,))[-1]
    return FinishedTrial(
        trial.number,
        trial.params,
        value if math.isfinite(value) else None,
        by_fold,
        trial.state == state.PRUNED,
        (trial.datetime_start or now).astimezone(UTC),
        (trial.datetime_complete or now).astimezone(UTC),
    )


def _best_so_far(study: optuna.Study) -> str:
    try:
        return f"best log loss {study.best_value:.5f}"
    except ValueError:
        return "no trial is finished yet"
