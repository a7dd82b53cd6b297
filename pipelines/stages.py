"""The stages of `dvc.yaml`: each turns files into files, and fills the stores from them.

dvc repro
python pipelines/stages.py restore
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from configs.command_line import Debug, Stopwatch, done, new_app, note, run
from configs.section import utc_time
from configs.settings import ROOT, Settings, load_settings
from feature_store.connect import offline_store, online_store, raw_source, ttl
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.feature_file import md5, read_rows, refill, write_rows
from feature_store.ingest.prepared_rows import prepare as prepared, reading_prepared
from feature_store.training_data import TrainingRows, training_rows
from models.artifact.artifact import ModelArtifact, json_bytes, open_artifact
from models.connect import artifact_cache, model_registry
from models.errors import TrainingRefused
from models.families import load_model
from models.gates.held_out import dataset_of, split_of
from models.lineage import config_of
from models.reproduction.dvc_files import ensure_registered, keep, write_plots
from models.training.fit import held_out_metrics, masker_of
from pipelines.feature_pipeline import feature_pipeline
from pipelines.inference_pipeline import inference_pipeline
from pipelines.training_pipeline import training_pipeline

app = new_app("The stages of dvc.yaml. People run `dvc repro`, which runs those that must be.")
DATA = ROOT / "data"
PREPARED, FEATURES = DATA / "prepared.parquet", DATA / "user_features.parquet"
MODEL, RECORD = DATA / "model", DATA / "training.json"
METRICS, PLOTS, PREDICTIONS = DATA / "metrics.json", DATA / "plots", DATA / "predictions"


@app.command()
def prepare(debug: Debug = False) -> None:
    """Read the configured source whole, and write its rows with key and event time."""
    settings, stopwatch = load_settings(), Stopwatch()
    table = prepared(raw_source(settings), MODEL_VIEW, settings.feature)
    rows = len(table.frame) + table.refused
    if table.refused > settings.feature.max_bad_share * rows:
        raise TrainingRefused(
            f"{table.refused:,} of {rows:,} rows have no usable key or time; "
            f"{settings.feature.max_bad_share:.1%} may. See 'source' in the feature settings."
        )
    table.frame.write_parquet(PREPARED)
    done(f"Prepared {len(table.frame):,} rows", stopwatch.lap())
    if table.refused:
        note(f"{table.refused:,} rows without a usable key or time were left out")


@app.command()
def features(debug: Debug = False) -> None:
    """Run the feature pipeline on the prepared rows, and write what the offline store has then."""
    settings = load_settings()
    reading = reading_prepared(settings.feature, MODEL_VIEW, str(PREPARED))
    with TemporaryDirectory() as folder:
        config = Path(folder) / "feature_config.yaml"
        config.write_text(yaml.safe_dump(reading.model_dump(mode="json")))
        feature_pipeline(config=config)
    span = settings.feature.event_time
    rows = training_rows(
        offline_store(settings),
        MODEL_VIEW.schema,
        MODEL_VIEW.entity,
        span.start,
        span.end,
        ttl=ttl(settings),
    )
    write_rows(FEATURES, rows, MODEL_VIEW.entity)
    done(f"Written {len(rows):,} rows × {len(MODEL_VIEW.schema)} features to {relative(FEATURES)}")


@app.command()
def train(debug: Debug = False) -> None:
    """Train, judge and register a model of the features file; keep its artifact beside it."""
    settings = load_settings()
    rows = restore_stores(settings)
    version = training_pipeline(reuse=True)
    assert version is not None
    artifact = artifact_cache(settings).get(version.artifact_uri, version.digest)
    span = settings.training.start, settings.training.end
    digest = dataset_of(artifact, cut(rows, *span)).digest
    if version.tags["dataset_digest"] != digest:
        raise TrainingRefused(
            f"{version.label} was trained on rows {version.tags['dataset_digest'][:12]}…, and "
            f"{relative(FEATURES)} holds {digest[:12]}…: the offline store has other rows of these "
            "dates. Give DVC a database of its own (DATABASE_URL, or FTI_VAR_DIR)."
        )
    known = {"dvc_path": relative(FEATURES), "dvc_md5": md5(FEATURES)}
    registry = model_registry(settings)
    registry.set_tags(version, known)
    keep(artifact, registry.find(version.label), MODEL, RECORD)
    done(f"Written {version.label} to {relative(MODEL)}")
    note(
        f"rows {digest[:12]}… in MLflow are {relative(FEATURES)} with MD5 {known['dvc_md5']} in DVC"
    )


@app.command()
def evaluate(debug: Debug = False) -> None:
    """Evaluate the kept model on the rows that it has not seen: metrics and curves as files."""
    kept = Kept.read()
    test, config = split_of(kept.artifact, kept.rows).test, config_of(kept.artifact.config)
    view = MODEL_VIEW.with_words(kept.artifact.feature_schema.words)
    model, masker = load_model(kept.artifact), masker_of(view, config)
    found = held_out_metrics(model, test, masker, config)
    METRICS.write_bytes(json_bytes({name: round(value, 6) for name, value in found.items()}))
    probabilities = model.predict_proba(masker.narrow(test.features))
    write_plots(PLOTS, test.labels, probabilities, model.importance())
    done(f"Accuracy: {found['accuracy']:.4f}, log loss: {found['log_loss']:.4f}")
    note(f"{relative(METRICS)} and {relative(PLOTS)}: dvc metrics diff, dvc plots show")


@app.command()
def batch(debug: Debug = False) -> None:
    """Score every row of the features file with the kept model."""
    label = Kept.read().ensure_registered()
    inference_pipeline(
        input=[str(FEATURES)],
        output=str(PREDICTIONS),
        model_version=label,
        as_of=load_settings().feature.event_time.end,
    )


@app.command()
def restore(debug: Debug = False) -> None:
    """Fill empty stores and an empty registry from the files, as after `dvc pull`."""
    restore_stores(load_settings())
    done(f"The registry has {Kept.read().ensure_registered()}")


@dataclass(frozen=True)
class Kept:
    """What the files hold: a model, and the rows that it was trained and judged on."""

    settings: Settings
    artifact: ModelArtifact
    rows: TrainingRows

    @classmethod
    def read(cls) -> Kept:
        """Read and check the files."""
        artifact = open_artifact(MODEL)
        start, end = artifact.config["start"], artifact.config["end"]
        rows = read_rows(FEATURES, MODEL_VIEW.schema, MODEL_VIEW.entity)
        return cls(load_settings(), artifact, cut(rows, utc_time(start), utc_time(end)))

    def ensure_registered(self) -> str:
        """The label of the version in the registry, which gets it if it has none."""
        dataset = dataset_of(self.artifact, self.rows)
        metrics = json.loads(METRICS.read_text()) if METRICS.exists() else {}
        registry = model_registry(self.settings)
        return ensure_registered(registry, self.artifact, dataset, RECORD, metrics).label


def restore_stores(settings: Settings) -> TrainingRows:
    """Bring the rows of the features file into both stores, unless they are there; return them."""
    rows = read_rows(FEATURES, MODEL_VIEW.schema, MODEL_VIEW.entity)
    stored = refill(offline_store(settings), online_store(settings), rows, MODEL_VIEW.entity)
    done(f"The stores have the {len(rows):,} rows of {relative(FEATURES)}")
    note(f"{stored.added:,} were brought back, {stored.known:,} were there")
    return rows


def cut(rows: TrainingRows, start: datetime, end: datetime) -> TrainingRows:
    """The rows with times from ``start`` on and before ``end``."""
    first, last = (np.datetime64(each.replace(tzinfo=None), "us") for each in (start, end))
    times = rows.features.times
    which = (times >= first) & (times < last)
    return TrainingRows(rows.features.rows(which), rows.labels[which])


def relative(path: Path) -> str:
    """A path as people and DVC know it."""
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    run(app)
