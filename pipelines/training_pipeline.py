"""The training pipeline: features and labels in, a judged and registered model out.

python pipelines/training_pipeline.py --experiment-name income-prediction --model xgboost
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from configs.command_line import Debug, done, new_app, progress, run
from configs.settings import load_settings
from feature_store.connect import offline_store, ttl
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.training_data import training_rows
from models.connect import champion_of, decision_store, gate_runner, model_registry, study_store
from models.families import new_model
from models.lifecycle.watch import ensure_watch
from models.lineage import Provenance
from models.registry.tracking import register_run
from models.registry.versions import ModelVersion
from models.reports.write_up import write_up
from models.training.fit import Trained, fit, held_out_metrics, masker_of, recipe_of, split_of
from models.training.search_space import SearchSpace
from pipelines.reproduction import reproduce_version
from pipelines.training_options import (
    find_extras,
    refuse_the_future,
    report,
    report_gates,
    tune_settings,
)

app = new_app()


@app.command()
def training_pipeline(
    experiment_name: Annotated[str | None, typer.Option(help="The MLflow experiment.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The family: xgboost, neural_network or ensemble.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split, masks and model.")] = None,
    start: Annotated[str | None, typer.Option(help="First label time, as 2020-01-01.")] = None,
    end: Annotated[str | None, typer.Option(help="First label time not included.")] = None,
    known_by: Annotated[
        str | None,
        typer.Option(help="Only what the store had learned by then: the data of a past day."),
    ] = None,
    config: Annotated[Path, typer.Option(help="The training settings (YAML).")] = Path(
        "configs/training_config.yaml"
    ),
    tune: Annotated[
        int, typer.Option(min=0, help="Search hyper-parameters with so many trials in all.")
    ] = 0,
    exclude_protected: Annotated[
        bool, typer.Option("--exclude-protected", help="Train without protected features.")
    ] = False,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on growing shares of the rows too.")
    ] = False,
    reuse: Annotated[
        bool, typer.Option(help="Keep a version of the same data, settings and code.")
    ] = False,
    reproduce: Annotated[
        str | None, typer.Option(help="Train this version anew and prove equal metrics.")
    ] = None,
    debug: Debug = False,
) -> ModelVersion | None:
    """Train a model on the offline store's features, judge it on unseen rows, and register it.

    Options that are not given have the values of the training settings.
    """
    if reproduce is not None:
        reproduce_version(reproduce)
        return None
    started_at = datetime.now(UTC)
    options = without_none(
        experiment_name=experiment_name,
        model=model,
        seed=seed,
        start=start,
        end=end,
        known_by=known_by,
        exclude_protected=exclude_protected or None,
    )
    settings = load_settings({"training": config}, training=options)
    training, registry = settings.training, model_registry(settings)
    refuse_the_future(training.known_by, started_at)
    if tune:
        SearchSpace.of(training)  # refuses a bad one before any work is done
    registry.refuse_unreachable()

    store = offline_store(settings)
    schema, entity, times = MODEL_VIEW.schema, MODEL_VIEW.entity, (training.start, training.end)
    rows = training_rows(
        store, schema, entity, *times, ttl=ttl(settings), known_by=training.known_by
    )
    done(f"Retrieved {len(rows):,} rows from feature store")

    masker = masker_of(MODEL_VIEW.with_words(rows.features.schema.words), training)
    recipe, split = recipe_of(rows, masker, training), split_of(rows, masker.schema, training)
    done(f"Split: {1 - training.test_share:.0%} train, {training.test_share:.0%} test")
    tuned = None
    if tune:
        studies = study_store(settings)
        tuned, training = tune_settings(studies, split, masker, recipe, training, tune)
        recipe = recipe_of(rows, masker, training)
    known = registry.trained_from(recipe.training_key) if reuse else None
    if known:
        done(f"Model registered: {known.label} (of the same data, settings and code; not repeated)")
        done(f"MLflow experiment: {registry.experiment_url(training.experiment_name)}")
        return known

    untrained = new_model(training)
    done(f"Training {untrained.title} model...")
    with progress("Training", untrained.most_rounds, " rounds") as on_round:
        fitted = fit(untrained, split, masker, training, on_round)
    trained = Trained(fitted, split, held_out_metrics(fitted, split.test, masker, training))
    report(trained.metrics)
    extras = find_extras(trained, masker, training, tuned, with_curve=learning_curve)

    with TemporaryDirectory() as folder:
        record = write_up(trained, recipe, masker, started_at, Path(folder), training, extras)
        champion = champion_of(settings)
        decision = gate_runner(settings).judge(record.artifact, split.test, rows, champion)
        origin = Provenance.here(started_at, champion.label if champion else None)
        tags = {**record.tags, **origin.tags(recipe), **decision.tags()}
        version = register_run(registry, replace(record, tags=tags))
    decision_store(settings).add(version, decision)
    ensure_watch(settings)
    done(f"Model registered: {version.label}")
    report_gates(decision)
    done(f"MLflow experiment: {registry.experiment_url(training.experiment_name)}")
    return version


def without_none(**options: Any) -> dict[str, Any]:
    """The options that the command line gave."""
    return {name: value for name, value in options.items() if value is not None}


if __name__ == "__main__":
    run(app)
