"""The training pipeline: features and labels in, a judged and registered model out.

python pipelines/training_pipeline.py --experiment-name income-prediction --model xgboost
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from configs.command_line import Debug, done, new_app, note, progress, run
from configs.settings import load_settings
from feature_store.connect import offline_store, ttl
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.training_data import training_rows
from models.connect import model_registry
from models.families import new_model
from models.lineage import Recipe
from models.masking import Masker
from models.split import split_rows
from models.tracking import publish
from models.training import Trained, fit, judge, write_up

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
    config: Annotated[Path, typer.Option(help="The training settings (YAML).")] = Path(
        "configs/training_config.yaml"
    ),
    reuse: Annotated[
        bool, typer.Option(help="Keep a version of the same data, settings and code.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train a model on the offline store's features, judge it on unseen rows, and register it.

    Options that are not given have the values of the training settings.
    """
    started_at = datetime.now(UTC)
    settings = load_settings(
        {"training": config},
        training=given(
            experiment_name=experiment_name, model=model, seed=seed, start=start, end=end
        ),
    )
    training, registry, masker = settings.training, model_registry(settings), Masker(MODEL_VIEW)
    registry.refuse_unreachable()

    rows = training_rows(
        offline_store(settings),
        MODEL_VIEW.schema,
        MODEL_VIEW.entity,
        training.start,
        training.end,
        ttl=ttl(settings),
    )
    done(f"Retrieved {len(rows):,} rows from feature store")

    recipe = Recipe.of(rows, training)
    known = registry.trained_from(recipe.training_key) if reuse else None
    if known:
        done(f"Model registered: {known.label} (of the same data, settings and code; not repeated)")
        done(f"MLflow experiment: {registry.experiment_url(training.experiment_name)}")
        return

    split = split_rows(
        rows.features,
        rows.labels,
        test_share=training.test_share,
        validation_share=training.validation_share,
        seed=training.seed,
    )
    done(f"Split: {1 - training.test_share:.0%} train, {training.test_share:.0%} test")

    untrained = new_model(training)
    done(f"Training {untrained.title} model...")
    with progress("Training", untrained.most_rounds, " rounds") as on_round:
        fitted = fit(untrained, split, masker, training, on_round)
    trained = Trained(fitted, split, judge(fitted, split.test, masker, training))
    report(trained.metrics)

    with TemporaryDirectory() as folder:
        record = write_up(trained, recipe, masker, started_at, Path(folder))
        version = publish(registry, record)
    done(f"Model registered: {version.label}")
    done(f"MLflow experiment: {registry.experiment_url(training.experiment_name)}")


def given(**options: Any) -> dict[str, Any]:
    """The options that the command line gave."""
    return {name: value for name, value in options.items() if value is not None}


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


if __name__ == "__main__":
    run(app)
