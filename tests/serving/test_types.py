"""The API with all types of columns: a model takes those that it can, all are shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from configs.settings import Settings
from feature_store.definitions.engine import FeatureMatrix
from models.artifact.artifact import write_artifact
from models.deployment.record import Arm
from models.rows.masking import Masker
from tests.serving.in_process import Api, api_of, told
from tests.worlds.accounts import ATTRIBUTES, CLOSED, OPENED, SCHEMA, VIEW, WORDS, random_rows
from tests.worlds.artifacts import model_files_on
from tests.worlds.serving import World, new_world, now

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def typed_world(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Users with values of all types, and a model that learned from them deployed."""
    with new_world(settings, tmp_path_factory.mktemp("world")) as world:
        rows = random_rows()
        world.online.of(SCHEMA).write(rows, now())
        files = model_files_on(1, Masker(VIEW.with_words(WORDS)).narrow(rows))
        artifact = write_artifact(world.artifacts.folder / "7" / "model", files)
        uri = "mlflow-artifacts:/7/model"
        world.deploy_arm(Arm("champion", 7, "income-xgb-v7", uri, artifact.digest))
        yield world


async def test_stored_and_given_values_give_the_same_answer(typed_world: World) -> None:
    async with api_of(typed_world.settings, VIEW) as api:
        stored = await _asked(api, user_id=1)
        assert (stored["degraded"], stored["missing"]) == (False, [])
        given = await _asked(api, **ATTRIBUTES)
        assert given["probability"] == stored["probability"]
        assert given["missing"] == []
        over = await _asked(api, user_id=2, **ATTRIBUTES)
        assert over["probability"] == stored["probability"]
        changed = await _asked(api, user_id=1, taste=[9, 9, 9, 9])
        assert (
            changed["probability"]
            == (await _asked(api, **ATTRIBUTES | {"taste": [9] * 4}))["probability"]
        )
        nothing = await _asked(api, age=40)
        assert nothing["missing"] == ["city", "member", "taste", "balance"]


async def test_a_word_that_the_model_does_not_know_is_unseen_given_or_stored(
    typed_world: World,
) -> None:
    new = SCHEMA.with_words({"city": (*WORDS["city"], "Rome")})
    place = SCHEMA.position("city")
    rows = random_rows(1).values.copy()
    rows[0, place] = 4  # Rome, which was learned after the model was trained
    exact = random_rows(1).exact
    times = np.full(1, np.datetime64("2026-01-02", "us"))
    matrix = FeatureMatrix(rows, np.array([999]), times, new, exact)
    typed_world.online.of(SCHEMA).write(matrix, now())
    async with api_of(typed_world.settings, VIEW) as api:
        stored = await _asked(api, user_id=999)
        given = await _asked(api, **ATTRIBUTES | {"city": "Rome"})
        assert stored["probability"] == given["probability"]
        assert (stored["unseen"], given["unseen"]) == (["city"], ["city"])
        known = await _asked(api, **ATTRIBUTES | {"city": " oslo"})
        assert known["unseen"] == []
        shown = (await api.client.get("/features/999")).json()
        assert (shown["features"]["city"], shown["unseen"]) == (None, ["city"])


async def test_what_is_stored_is_shown_to_the_digit(typed_world: World) -> None:
    async with api_of(typed_world.settings, VIEW) as api:
        await _asked(api, user_id=1)
        shown = (await api.client.get("/features/1")).json()["features"]
    tenth = float(np.float32(0.1))
    assert shown == {
        **{
            "age": 40,
            "city": "Oslo",
            "member": True,
            "taste": [0.5, -0.25, tenth, 3],
            "balance": 0.1,
        },
        **{"lasted_days": 10.5, "account": 2**63 - 1, "nick": "Zoë"},
        **{"opened": OPENED, "closed": CLOSED},
    }


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"taste": [1, 2, 3]}, "at least 4 items"),
        ({"taste": [1, 2, 3, None]}, "valid number"),
        ({"taste": "[1, 2, 3, 4]"}, "Input should be a valid"),
        ({"opened": OPENED}, "opened and closed together, or none of them"),
        ({"opened": "noon", "closed": CLOSED}, "opened is 'noon', expected a time such as"),
        ({"nick": "Zoe"}, "age, city, member, taste, balance, opened, closed"),
        ({"taste_0": 1}, "did you mean 'taste'?"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    typed_world: World, body: dict[str, Any], why: str
) -> None:
    async with api_of(typed_world.settings, VIEW) as api:
        for path, sent in (("/predict", body), ("/predict/batch", {"rows": [{"age": 1}, body]})):
            refused = await api.client.post(path, json=sent)
            assert refused.status_code == 422, refused.text
            assert why in refused.json()["error"]


async def test_answers_can_be_looked_up_replayed_and_explained(typed_world: World) -> None:
    async with api_of(typed_world.settings, VIEW) as api:
        answer = (await api.ask({"user_id": 1})).json()
        receipt = (await api.client.get(f"/predictions/{answer['prediction_id']}")).json()
        assert receipt["features"]["taste"][:2] == [0.5, -0.25]
        replay = await api.client.post(f"/predictions/{answer['prediction_id']}/replay")
        assert replay.status_code == 200, replay.text
        explained = await api.client.post("/explain", json=ATTRIBUTES)
        assert explained.json()["probability"] == answer["probability"]


async def test_the_document_describes_lists_and_times(typed_world: World) -> None:
    async with api_of(typed_world.settings, VIEW) as api:
        document = (await api.client.get("/openapi.json")).json()
    fields = document["components"]["schemas"]["PredictionRequest"]["properties"]
    [listed] = [each for each in fields["taste"]["anyOf"] if each["type"] == "array"]
    assert (listed["minItems"], listed["maxItems"], listed["items"]["type"]) == (4, 4, "number")
    assert fields["opened"]["examples"] == ["2026-01-05T10:00:00Z"]


async def _asked(api: Api, **body: Any) -> dict[str, Any]:
    return told(await api.ask(body))
