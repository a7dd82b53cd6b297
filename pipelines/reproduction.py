"""The training pipeline once more, from what a version recorded: proof that it comes out equal."""

from __future__ import annotations

from datetime import UTC, datetime

from configs.command_line import done, note, progress
from configs.settings import load_settings
from feature_store.feature_definitions import MODEL_VIEW
from models.connect import artifact_cache, history, model_registry
from models.families import load_model, new_model
from models.gates.held_out import split_of
from models.lineage import Provenance, config_of
from models.reproduction.reproduction import Reproduction, common, differences, recorded_metrics
from models.training.fit import fit, held_out_metrics, masker_of


def reproduce_version(label: str) -> None:
    """Train a version anew from its recorded settings and data; registers nothing.

    Raises
    ------
    NotReproduced
        If a metric differs; the message says what was otherwise.
    """
    settings = load_settings()
    registry = model_registry(settings)
    registry.refuse_unreachable()
    version = registry.find(label)
    artifact = artifact_cache(settings).get(version.artifact_uri, version.digest)
    config = config_of(artifact.config)
    masker = masker_of(MODEL_VIEW.with_words(artifact.feature_schema.words), config)
    done(f"Found the recipe of {label}")

    drawn = history(settings).rows(artifact, version.trained_at)
    done(f"Retrieved {len(drawn.rows):,} rows from feature store")
    here = Provenance.here(datetime.now(UTC), None)
    differs = tuple(differences(version, artifact, drawn, here))
    for difference in differs:
        note(f"otherwise than then: {difference}")

    split, untrained = split_of(artifact, drawn.rows), new_model(config)
    done(f"Training {untrained.title} model...")
    with progress("Training", untrained.most_rounds, " rounds") as on_round:
        fitted = fit(untrained, split, masker, config, on_round)
    metrics = common(
        recorded_metrics(registry, version), held_out_metrics(fitted, split.test, masker, config)
    )
    test = masker.narrow(split.test.features)
    scores = [each.predict_proba(test) for each in (load_model(artifact), fitted)]

    is_same_model = scores[0].tobytes() == scores[1].tobytes()
    found = Reproduction(label, differs, metrics, is_same_model)
    found.refuse_different()
    done(f"Reproduced {label}: {len(found.metrics)} metrics are equal")
    note(
        f"largest difference {found.largest_difference:.1e}; probabilities of "
        f"{len(test):,} held-out rows are {'' if is_same_model else 'not '}equal to the bit"
    )
