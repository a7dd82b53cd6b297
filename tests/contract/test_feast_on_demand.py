"""Raw attributes in a request win over stored ones, and all that follows is the engine's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast.errors import FeatureNameCollisionError, RequestDataNotFoundInEntityRowsException
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    SavedDatasetPostgreSQLStorage,
)
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from numpy.typing import NDArray

from feature_store.definitions.engine import Engine
from feature_store.errors import FeatureStoreError, UnknownFeature
from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.feast import UNKNOWN, USERS, World

END = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = list(MODEL_VIEW.schema.names)
ENGINE = Engine(MODEL_VIEW)
REFS = [f"user_features_on_request:{name}" for name in NAMES]
REQUESTS: list[dict[str, Any]] = [
    {},
    {"age": 61},
    {"education": "Masters"},
    {"education": "Masters", "education_num": 3},
    {"education_num": 5, "hours_per_week": 60, "occupation": "Sales"},
    {"workclass": "never seen before", "age": None},
    {"native_country": None, "sex": "Female", "capital_gain": 99_999},
]


def expected(stored: NDArray[np.float32] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What our own call computes for such a request."""
    vector = ENGINE.row(given) if stored is None else ENGINE.override(stored, given)
    return MODEL_VIEW.schema.decode(vector)


def asked(keys: list[int], requests: list[Any]) -> list[dict[str, Any]]:
    return [
        {"user_id": key, "attributes": request} for key, request in zip(keys, requests, strict=True)
    ]


def rows_of(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        dict(zip(NAMES, row, strict=True)) for row in zip(*(columns[n] for n in NAMES), strict=True)
    ]


@pytest.mark.parametrize("write", [json.dumps, dict], ids=["text", "mapping"])
def test_a_request_wins_over_what_is_stored(world: World, write: Any) -> None:
    keys = [4, 5, 6, 7, USERS - 1, USERS, UNKNOWN]  # the last but two holds a word never seen
    for shift in range(len(REQUESTS)):
        given = REQUESTS[shift:] + REQUESTS[:shift]
        answer = world.feast.get_online_features(
            world.objects["service_on_request"], asked(keys, [write(each) for each in given])
        ).to_dict()
        stored = [None if row is None else row.vector for row in world.online.read_many(keys)]
        own = [expected(s, g) for s, g in zip(stored, given, strict=True)]
        assert set(answer) == {"user_id", *NAMES}
        assert rows_of(answer) == own


def test_the_same_in_an_event_loop(world: World) -> None:
    rows = asked([4, UNKNOWN], ['{"age": 61}', None])

    async def read() -> dict[str, Any]:
        answer = await world.feast.get_online_features_async(REFS, rows)
        await world.feast.provider.online_store.close()
        return answer.to_dict()

    assert asyncio.run(read()) == world.feast.get_online_features(REFS, rows).to_dict()


def test_stored_and_requested_features_stand_side_by_side_under_full_names(world: World) -> None:
    refs = ["user_features:age", "user_features_on_request:age", "user_features_on_request:sex"]
    rows = asked([4], ['{"age": 61}'])
    answer = world.feast.get_online_features(refs, rows, full_feature_names=True).to_dict()
    [row] = world.online.read_many([4])
    assert row is not None
    stored = MODEL_VIEW.schema.decode(row.vector)
    assert answer == {
        "user_id": [4],
        "user_features__age": [stored["age"]],
        "user_features_on_request__age": [61],
        "user_features_on_request__sex": [stored["sex"]],
    }
    with pytest.raises(FeatureNameCollisionError):
        world.feast.get_online_features(refs, rows)


def test_a_feature_that_stays_missing_is_null(world: World) -> None:
    refs = ["user_features_on_request:age", "user_features_on_request:sex"]
    response = world.feast.get_online_features(refs, asked([UNKNOWN], ['{"age": 61}'])).proto
    names = list(response.metadata.feature_names.val)
    statuses = {
        name: FieldStatus.Name(result.statuses[0])
        for name, result in zip(names, response.results, strict=True)
    }
    assert statuses == {"user_id": "PRESENT", "age": "PRESENT", "sex": "NULL_VALUE"}


def test_of_a_row_that_is_too_old_only_the_request_counts(world: World) -> None:
    packed = world.objects["packed"]
    patient, packed.ttl = packed.ttl, timedelta(days=1)
    try:
        world.feast.apply([packed])
        answer = world.feast.get_online_features(REFS, asked([4], ['{"age": 61}'])).to_dict()
    finally:
        packed.ttl = patient
        world.feast.apply([packed])
    assert rows_of(answer) == [expected(None, {"age": 61})]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("{", "attributes are no JSON: Expecting property name"),
        ("[1]", r"attributes are '\[1\]'; expected an object of raw attributes"),
        ('{"age": "old"}', "gives age = 'old'; expected a number from 0 to 120, or null"),
        ('{"age": 121}', "gives age = 121; expected a number from 0 to 120, or null"),
        ('{"age": NaN}', "gives age = nan; expected a number from 0 to 120, or null"),
        ('{"sex": 1}', "gives sex = 1; expected a word, or null"),
    ],
)
def test_a_request_that_cannot_be_is_refused(world: World, attributes: str, message: str) -> None:
    with pytest.raises(FeatureStoreError, match=message):
        world.feast.get_online_features(REFS, asked([4], [attributes]))


def test_what_is_no_raw_attribute_is_named(world: World) -> None:
    with pytest.raises(UnknownFeature, match=r"'agee' is not a raw column of 'user_features'"):
        world.feast.get_online_features(REFS, asked([4], ['{"agee": 3}']))
    with pytest.raises(RequestDataNotFoundInEntityRowsException, match="attributes"):
        world.feast.get_online_features(REFS, [{"user_id": 4}])


@pytest.mark.parametrize("write", [json.dumps, dict], ids=["text", "mapping"])
def test_history_is_overridden_in_the_same_way(world: World, write: Any) -> None:
    n = 3 * len(REQUESTS)
    keys = np.array([*range(1, n - 2), USERS - 1, USERS, UNKNOWN])
    given = REQUESTS * 3
    rows = pd.DataFrame(
        {
            "user_id": keys,
            "event_timestamp": [END, END - timedelta(days=900), END] * len(REQUESTS),
            "attributes": [write(each) for each in given],
        }
    )
    table = world.feast.get_historical_features(rows, REFS).to_arrow()
    assert table.column_names == ["user_id", "event_timestamp", "attributes", *NAMES]
    types = [str(table.schema.field(name).type) for name in ("age", "capital_gain_log", "sex")]
    assert types == ["int64", "float", "string"]
    times = rows["event_timestamp"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    matrix, found = world.offline.historical(MODEL_VIEW.schema, "user_id", keys, times)
    assert 0 < found.sum() < n
    own = [
        expected(vector if is_found else None, request)
        for vector, is_found, request in zip(matrix.values, found, given, strict=True)
    ]
    assert rows_of(table.to_pydict()) == own


def test_history_holds_stored_and_overridden_features_together(world: World) -> None:
    refs = ["user_features:age", "user_features_on_request:age"]
    rows = pd.DataFrame({"user_id": [1], "event_timestamp": [END], "attributes": ['{"age": 61}']})
    answer = world.feast.get_historical_features(rows, refs, full_feature_names=True).to_df()
    assert answer["user_features__age"].tolist() == [50]
    assert answer["user_features_on_request__age"].tolist() == [61]
    assert not [name for name in answer if "packed" in name]


def test_overridden_history_can_be_saved_and_read_back(world: World) -> None:
    rows = pd.DataFrame(
        {"user_id": [1, 2], "event_timestamp": [END] * 2, "attributes": ['{"age": 61}', None]}
    )
    job = world.feast.get_historical_features(rows, REFS[:1])
    with pytest.warns(RuntimeWarning, match="experimental"):
        world.feast.create_saved_dataset(job, "asked", SavedDatasetPostgreSQLStorage("asked"))
    with pytest.warns(RuntimeWarning, match="experimental"):
        saved = world.feast.get_saved_dataset("asked").to_df()
    assert saved.sort_values("user_id")["age"].tolist() == [61, world.matrix.values[1, 0]]


def test_the_registry_holds_one_line_that_imports_ours(world: World) -> None:
    view = world.feast.get_on_demand_feature_view("user_features_on_request")
    text = view.feature_transformation.udf_string
    assert text.count("\n    ") == 2
    assert 'fromlist=["answer"]).answer(inputs)' in text
    assert [field.name for field in view.features] == NAMES
