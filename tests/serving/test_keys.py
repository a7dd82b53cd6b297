"""The API with keys that are no whole numbers from 1 on: texts, several parts, zero and below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest

from configs.settings import Settings
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from feature_store.feature_definitions import MODEL_VIEW
from models.artifact.artifact import write_artifact
from models.deployment.record import Arm
from tests.serving.in_process import Api, api_of, told
from tests.worlds.artifacts import model_files_of
from tests.worlds.serving import World, new_world, now

pytestmark = pytest.mark.anyio
TIME = "2026-01-31T12:00:00Z"


@dataclass(frozen=True)
class Case:
    """An entity, and the key of the first user of the world."""

    entity: Entity
    key: dict[str, Any]
    text: str
    unit: str
    nobody: dict[str, Any]
    bad: dict[str, Any]
    why: str

    @property
    def view(self) -> FeatureView:
        """The model's view, about something else."""
        view = FeatureView(MODEL_VIEW.name, self.entity, missing=MODEL_VIEW.missing_marks)
        view.definitions, view.fills = dict(MODEL_VIEW.definitions), dict(MODEL_VIEW.fills)
        return view

    @property
    def identity(self) -> int:
        return self.entity.identity(self.entity.read(self.key))


CASES = {
    "text": Case(
        Entity("tail_number", key="string"),
        {"tail_number": "N/14 ü"},
        *("N%2F14%20%C3%BC", "N/14 ü"),
        {"tail_number": "n/14 ü"},
        {"tail_number": "x" * 129},
        "String should have at most 128 characters",
    ),
    "composite": Case(
        Entity("route", key={"origin": "string", "gate": "integer"}),
        {"origin": "JFK", "gate": 7},
        *("JFK,7", '["JFK",7]'),
        {"origin": "JFK", "gate": 8},
        {"origin": "JFK"},
        "expected 'gate', too: the key of a route is origin and gate",
    ),
    "zero": Case(
        Entity("user_id"),
        {"user_id": 0},
        *("0", "0"),
        {"user_id": -1},
        {"user_id": 2**63},
        "less than or equal to 9223372036854775807",
    ),
    "below zero": Case(
        Entity("user_id"),
        {"user_id": -(2**63) + 1},
        *(str(-(2**63) + 1), str(-(2**63) + 1)),
        {"user_id": -1},
        {"user_id": -(2**63)},
        "greater than or equal to -9223372036854775807",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def keyed_world(
    settings: Settings, case: Case, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The world's first user under the case's key, and a model of the case's view deployed."""
    with new_world(settings, tmp_path_factory.mktemp("world")) as world:
        _serve(world, case)
        yield world


def _serve(world: World, case: Case) -> None:
    schema, rows = case.view.schema, world.matrix
    matrix = FeatureMatrix(rows.values[:1], np.array([case.identity]), rows.times[:1], schema)
    world.online.of(schema).write(matrix, now())
    folder = world.artifacts.folder / "7" / "model"
    artifact = write_artifact(folder, model_files_of(1, schema))
    world.deploy_arm(
        Arm("champion", 7, "income-xgb-v7", "mlflow-artifacts:/7/model", artifact.digest)
    )


async def ready(api: Api) -> None:
    answer = await api.client.get("/ready")
    assert answer.status_code == 200, answer.text


async def test_a_key_is_answered_from_its_own_features_on_every_path(
    keyed_world: World, case: Case
) -> None:
    async with api_of(keyed_world.settings, case.view) as api:
        await ready(api)
        alone = await api.ask(case.key)
        [in_batch] = (await _post(api, "/predict/batch", {"rows": [case.key]}))["predictions"]
        assert {**in_batch, **_own(alone)} == alone.json()
        assert not alone.json()["degraded"]

        stored = await api.client.get(f"/features/{case.text}")
        assert stored.status_code == 200, stored.text
        vector = keyed_world.matrix.values[0]
        assert stored.json()["features"] == MODEL_VIEW.schema.decode(vector)

        explained = await _post(api, "/explain", case.key)
        assert explained["probability"] == alone.json()["probability"]

        receipt = await api.client.get(f"/predictions/{alone.json()['prediction_id']}")
        assert receipt.json()["unit"] == case.unit
        assert receipt.json()["user_id"] == case.identity
        names = sorted(case.entity.columns)
        assert names == sorted(set(case.key))

        label = {**case.key, "label_time": TIME, "label": 1}
        assert await _post(api, "/feedback", label, 202) == {"accepted": 1}

    [row] = [r for r in keyed_world.stored_predictions() if r["unit"] == case.unit][:1]
    assert row["user_id"] == case.identity


async def test_attributes_with_a_key_and_without_one_are_answered(
    keyed_world: World, case: Case
) -> None:
    async with api_of(keyed_world.settings, case.view) as api:
        await ready(api)
        new = await api.ask({**case.nobody, "age": 35, "workclass": "Private"})
        nobody = await api.ask({"age": 35, "workclass": "Private"})
        assert told(new)["probability"] == told(nobody)["probability"]
        receipt = await api.client.get(f"/predictions/{new.json()['prediction_id']}")
        assert receipt.json()["unit"] == case.entity.text(case.entity.read(case.nobody))


async def test_who_is_not_stored_is_named_as_the_caller_knows_them(
    keyed_world: World, case: Case
) -> None:
    async with api_of(keyed_world.settings, case.view) as api:
        await ready(api)
        unknown = await api.ask(case.nobody)
        name = case.entity.text(case.entity.read(case.nobody))
        assert unknown.status_code == 404
        assert f"no features for {case.entity.name} {name}. Send" in unknown.json()["error"]


async def test_what_is_no_key_is_refused_with_what_was_expected(
    keyed_world: World, case: Case
) -> None:
    async with api_of(keyed_world.settings, case.view) as api:
        await ready(api)
        refused = await api.ask(case.bad)
        assert refused.status_code == 422
        assert case.why in refused.json()["error"]
        assert (await api.ask({})).status_code == 422
        assert (await api.ask(dict.fromkeys(case.key))).status_code == 422
        document = (await api.client.get("/openapi.json")).json()
        fields = document["components"]["schemas"]["PredictionRequest"]["properties"]
        assert set(case.key) <= set(fields)
        if not case.entity.is_whole and len(case.key) > 1:
            short = await api.client.get("/features/JFK")
            assert short.status_code == 422
            assert "expected origin and gate" in short.json()["error"]
            label = {"origin": "JFK", "label_time": TIME, "label": 1}
            problem = await _post(api, "/feedback", label, 422)
            assert "expected 'gate', too" in problem["error"]


async def _post(api: Api, path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer: httpx.Response = await api.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _own(answer: httpx.Response) -> dict[str, Any]:
    own = ("prediction_id", "latency_ms")
    return {name: value for name, value in answer.json().items() if name in own}
