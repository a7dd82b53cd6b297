"""Arrays, timestamps and open vocabularies mean the same in requests, batches, masks and models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.schema import UNSEEN
from models.base import narrowed
from models.registry.pyfunc_loader import encode, with_places
from models.rows.masking import Masker
from pipelines.batch.errors import InputUnusable
from pipelines.batch.features import EngineeredFeatures, take_features
from pipelines.batch.inputs import Kind, columns_of, kind_of
from serving.bodies.request_schema import request_schema, to_request
from serving.prediction.missing_attributes import MissingAttributes
from serving.prediction.model_features import FeatureVersions
from tests.worlds.typed_views import FACE, FACES, VISITS, city_view


def test_requests_say_what_is_no_list_and_no_time() -> None:
    body = request_schema(FACES).read({"face": [1, 2.5, 3], "age": 3})
    assert to_request(body, FACES.key).attributes["face"] == [1, 2.5, 3]
    for bad in ([1, 2], [1, 2, None], "[1, 2, 3]", [1, 2, 16_777_217], [1, 2, 1e39]):
        with pytest.raises(ValidationError):
            request_schema(FACES).read({"face": bad})
    body = request_schema(FACES).read({"face": "?", "age": 3})
    assert to_request(body, FACES.key).attributes["face"] is None
    visits = request_schema(VISITS)
    asked = to_request(visits.read({"came": "2026-01-05", "went": None}), VISITS.key)
    assert asked.attributes["came"] == "2026-01-05"
    with pytest.raises(ValidationError, match="came is 'noon', expected a time such as"):
        visits.read({"came": "noon", "went": None})
    with pytest.raises(ValidationError, match="came and went together, or none"):
        visits.read({"came": "2026-01-05"})
    assert list(request_schema(FACES).attributes.values()) == ["age", "face"]


def test_batches_take_lists_and_times() -> None:
    keys = np.array([1, 2])
    schema = FACES.schema
    table = pa.table({"user_id": [1, 2], "age": [3, None], "face": [FACE, None]})
    names = table.column_names
    assert kind_of(names, FACES, schema, "x") is Kind.attributes
    assert columns_of(Kind.attributes, names, FACES, schema) == ["user_id", "age", "face"]
    made = EngineeredFeatures(schema, Engine(FACES))(keys, table, "x")
    assert made.values[0].tobytes() == Engine(FACES).row({"age": 3, "face": FACE}).tobytes()
    with_features = table.append_column("first_two", pa.array(made.values[:, 4]))
    names = with_features.column_names
    assert kind_of(names, FACES, schema, "x") is Kind.features
    assert columns_of(Kind.features, names, FACES, schema)[1:] == ["age", "face", "first_two"]
    taken = take_features(schema, keys, with_features, "x")
    assert taken.values.tobytes() == made.values.tobytes()
    wrong = pa.table({"age": [3], "face": [[1.0]]})
    with pytest.raises(InputUnusable, match="Row 1 of x: face is a list of 1"):
        EngineeredFeatures(schema, Engine(FACES))(keys[:1], wrong, "x")

    times = {"came": ["2026-01-05T10:00:00Z"], "went": ["2026-01-05T13:30:00Z"]}
    visits = pa.table({"user_id": [1], "age": [30], **times})
    assert kind_of(visits.column_names, VISITS, VISITS.schema, "x") is Kind.attributes
    made = EngineeredFeatures(VISITS.schema, Engine(VISITS))(keys[:1], visits, "x")
    row = Engine(VISITS).row({"age": 30, **{name: time for name, [time] in times.items()}})
    assert made.values[0].tobytes() == row.tobytes()
    with pytest.raises(InputUnusable, match="lacks the columns went"):
        kind_of(["user_id", "age", "came"], VISITS, VISITS.schema, "x")


def test_an_array_is_missing_and_is_hidden_as_a_whole() -> None:
    vector = Engine(FACES).row({"age": 3})
    [unknown] = MissingAttributes(FACES.schema).of(vector[np.newaxis])
    assert unknown.missing == ["face"]
    masker = Masker(FACES)
    assert masker.groups == (("age",), ("face_0", "face_1", "face_2"))
    complete = Engine(FACES).row({"age": 3, "face": FACE})[np.newaxis]
    hidden = masker.hide(complete, np.array([[False, True]]))
    assert FACES.schema.decode(hidden[0]) == {"age": 3, "face": None, "first_two": None}
    masker = Masker(VISITS)
    assert masker.groups == (("age",), ("stayed_h", "time_of_day"))


def test_a_model_knows_the_words_that_it_was_trained_on() -> None:
    view = city_view()
    trained = view.schema.with_words({"city": ["Paris", "Oslo"]})
    stored = np.float32([[1, 2, 1], [1, 3, 1], [1, 4, 1]])  # the last word was learned since
    times = np.full(3, np.datetime64("2026-01-01", "us"))
    matrix = FeatureMatrix(stored, np.arange(3), times, view.schema)
    assert narrowed(matrix, trained).values[:, 1].tolist() == [2, 3, UNSEEN]
    engine = Engine(view.with_words(trained.words))
    table = pa.table({"user_id": [1, 2], "age": [1, 2], "city": ["oslo", "Rome"]})
    found = EngineeredFeatures(trained, engine)(np.array([1, 2]), table, "x")
    assert found.values[:, 1].tolist() == [3, UNSEEN]


def test_a_model_of_some_features_reads_words_that_it_does_not_take() -> None:
    view = city_view().with_words({"city": ["Paris", "Oslo"]})
    taken = view.schema.select(["age"])
    versions = FeatureVersions(Engine(city_view()), lambda schema, nothing: NotStored(nothing))
    asked: list[Any] = [({"age": 3, "city": "Rome"}, None)]
    assert versions.of(taken).vectors(asked).tolist() == [[3]]
    table = pa.table({"user_id": [1], "age": [3], "city": ["Rome"]})
    engine = Engine(city_view().with_words(taken.words))
    found = EngineeredFeatures(taken, engine)(np.array([1]), table, "x")
    assert found.values.tolist() == [[3]]


class NotStored:
    """A source of stored features that has none."""

    def __init__(self, nothing: np.ndarray) -> None:
        self.nothing = nothing.tobytes()


def test_lists_for_the_stock_client_keep_their_digits() -> None:
    features = [feature.meaning for feature in FACES.schema.features]
    frame = with_places(pd.DataFrame({"face": [[1, 2, 16_777_217], None]}), features)
    assert np.isnan(encode(frame["face_0"], features[1])[1])
    with pytest.raises(ValueError, match="face_2 is 16777217"):
        encode(frame["face_2"], features[3])
    with pytest.raises(ValueError, match="'face' has a list in which a number is missing"):
        with_places(pd.DataFrame({"face": [[1, 2, None]]}), features)
