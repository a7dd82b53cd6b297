"""A model on a view with arrays, timestamps and lookups: trained, written up, loaded, replayed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import load_settings
from feature_store.definitions.schema import UNSEEN
from feature_store.training_data import TrainingRows
from models.artifact.artifact import open_artifact, schema_json
from models.families import load_model, new_model
from models.onnx.scorer import OnnxScorer
from models.registry.pyfunc_loader import PackedModel
from models.reports.write_up import write_up
from models.training.fit import Trained, fit, held_out_metrics, masker_of, recipe_of, split_of
from tests.worlds.accounts import SCHEMA, VIEW, WORDS, random_rows


def test_a_model_takes_what_it_can_and_its_artifact_knows_the_whole_view(tmp_path: Path) -> None:
    training = load_settings().training
    masking = training.masking.model_copy(update={"request_attributes": ("age", "taste")})
    quick = training.xgboost.model_copy(update={"n_estimators": 20, "learning_rate": 0.3})
    evaluation = training.evaluation.model_copy(update={"slices": ()})
    changes = {"masking": masking, "model": "xgboost", "xgboost": quick, "evaluation": evaluation}
    config = training.model_copy(update=changes)
    features = random_rows(600)
    place = SCHEMA.position("taste_1")
    labels = (features.values[:, place] > 0).astype(np.int8)
    rows, masker = TrainingRows(features, labels), masker_of(VIEW.with_words(WORDS), config)
    split = split_of(rows, masker.schema, config)
    model = fit(new_model(config), split, masker, config)
    trained = Trained(model, split, held_out_metrics(model, split.test, masker, config))
    assert trained.metrics["roc_auc"] > 0.95

    record = write_up(
        trained, recipe_of(rows, masker, config), masker, datetime.now(UTC), tmp_path, config
    )
    artifact = open_artifact(record.artifact.path)
    taken = artifact.feature_schema
    assert taken.names == SCHEMA.names
    assert (taken.exact, taken.definition_fingerprint) == ((), SCHEMA.fingerprint)
    assert taken.whole is not None
    assert taken.whole.columns == SCHEMA.columns
    assert taken.words == taken.whole.words == WORDS
    assert record.tags["schema_fingerprint"] == SCHEMA.fingerprint
    again = load_model(artifact).predict_proba(masker.narrow(features))
    assert again.tobytes() == model.predict_proba(masker.narrow(features)).tobytes()
    frame = pd.DataFrame([{"age": 40, "city": "oslo", "taste": [0.5, -0.25, 0.1, 3]}] * 2)
    frame.loc[1, "city"] = "Rome"
    frame[["member", "balance", "lasted_days"]] = 1, 0.1, 10.5
    asked = np.repeat(features.values[:1], 2, axis=0)
    asked[1, SCHEMA.position("city")] = UNSEEN
    expected = OnnxScorer(artifact.read("model.onnx"), len(SCHEMA)).predict(asked)
    said = PackedModel(artifact.path).predict(frame)["probability"]
    assert np.allclose(said, expected, atol=1e-6)
    without = SCHEMA.with_words(WORDS).select(["age", "lasted_days"])
    described = json.loads(schema_json(without, "user_id"))
    assert described["words"] == {"city": list(WORDS["city"])}
    assert "taste_1 = " in (record.files / "model_card.html").read_text()
