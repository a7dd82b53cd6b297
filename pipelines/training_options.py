"""What a training does beside its story, where it is asked for: tuning, comparison, curve."""

from __future__ import annotations

from datetime import datetime

from configs.command_line import done, note, progress
from configs.training_config import TrainingConfig
from models.errors import TrainingRefused
from models.families import new_model
from models.gates.rules import SLICE, Decision
from models.lineage import Recipe
from models.reports.evaluation_report import Extras, OtherModel, compare
from models.rows.masking import Masker
from models.rows.split import Split
from models.training.fit import Trained, fit, masker_of
from models.training.learning_curve import SHARES, CurvePoint, learning_curve
from models.training.search_space import with_params
from models.training.study_store import StudyStore
from models.training.tuning import Tuned, tune


def tune_settings(
    store: StudyStore,
    split: Split,
    masker: Masker,
    recipe: Recipe,
    config: TrainingConfig,
    trials: int,
) -> tuple[Tuned, TrainingConfig]:
    """Search hyper-parameters; return what was found, and the settings with the best of them."""
    with progress("Tuning", trials, " trials") as on_trials:
        tuned = tune(store, split, masker, recipe, config, trials, on_trials)
    cut = sum(trial.was_pruned for trial in tuned.trials)
    done(f"Tuned: {len(tuned.trials)} trials, {cut} cut short; study {tuned.study}")
    best = ", ".join(f"{name} {value:.4g}" for name, value in tuned.best.items())
    note(f"cross-validated log loss {tuned.best_value:.5f} with {best}")
    return tuned, with_params(config, tuned.best)


def refuse_the_future(known_by: datetime | None, now: datetime) -> None:
    """Raise when the store is to know what it can only learn later.

    Raises
    ------
    TrainingRefused
        Then another training with the same settings would have other rows.
    """
    if known_by is not None and known_by > now:
        raise TrainingRefused(
            f"'known_by' is {known_by.isoformat(timespec='seconds')}, which has not come; it is "
            f"{now.isoformat(timespec='seconds')}. Give a time that has passed, or none."
        )


def find_extras(
    trained: Trained,
    masker: Masker,
    config: TrainingConfig,
    tuned: Tuned | None,
    *,
    with_curve: bool,
) -> Extras:
    """Train what the model is compared with, and its learning curve."""
    whole = with_protected(trained, masker, config) if config.exclude_protected else None
    curve: tuple[CurvePoint, ...] = ()
    if with_curve:
        with progress("Learning curve", len(SHARES), " sizes") as on_size:
            curve = learning_curve(trained.split, masker, config, on_size)
        done(f"Learning curve: {len(curve)} of {len(SHARES)} sizes")
        for point in curve:
            note(f"{point.rows:,} rows: log loss {point.log_loss.value:.4f}")
    return Extras(tuned, curve, whole)


def with_protected(trained: Trained, masker: Masker, config: TrainingConfig) -> OtherModel:
    """Train the same model with the protected features, on the same split, and compare."""
    everything = config.model_copy(update={"exclude_protected": False})
    untrained = new_model(everything)
    with progress("With protected features", untrained.most_rounds, " rounds") as on_round:
        whole = masker_of(masker.engine.view, everything)
        other = fit(untrained, trained.split, whole, everything, on_round)
    found = compare(trained.model, other, trained.split.test, masker, config)
    ours, theirs = trained.metrics, found.metrics
    note(
        f"with protected features: ROC-AUC {theirs['roc_auc']:.4f} (without "
        f"{ours['roc_auc']:.4f}), log loss {theirs['log_loss']:.4f} ({ours['log_loss']:.4f})"
    )
    return found


def report(metrics: dict[str, float]) -> None:
    """Print the quality on the test part."""
    decided = f"at the chosen threshold of {metrics['threshold']:.3f}"
    done(f"Accuracy: {metrics['accuracy']:.4f}")
    note(f"at 0.5; {metrics['accuracy_at_threshold']:.4f} {decided}")
    done(f"F1 Score: {metrics['f1_score']:.4f}")
    note(f"{decided}; {metrics['f1_score_at_half']:.4f} at 0.5")
    note(
        f"ROC-AUC {metrics['roc_auc']:.4f}, log loss {metrics['log_loss']:.4f}; "
        f"{metrics['log_loss_request_attributes']:.4f} on the attributes of a request alone"
    )


def report_gates(decision: Decision) -> None:
    """Print what each gate says; slices that are no worse are only counted."""
    note(f"Gates: {decision.summary}")
    open_slices = 0
    for result in decision.results:
        if result.passed and result.gate.startswith(SLICE):
            open_slices += 1
        else:
            note(f"{'✓' if result.passed else '✗'} {result.gate}: {result.reason}")
    if open_slices:
        note(f"✓ slices: {open_slices} are no worse by more than their margin")
