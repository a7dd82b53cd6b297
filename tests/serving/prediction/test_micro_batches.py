"""Requests that arrive together are answered together, and as each alone would be."""

from __future__ import annotations

import random
from typing import Any

import pytest

from feature_store.feature_definitions import MODEL_VIEW
from tests.serving.in_process import api_of, told
from tests.serving.prediction.older_versions import OTHER_RANGE, fill, model_of
from tests.worlds.artifacts import under
from tests.worlds.rows import random_matrix
from tests.worlds.serving import World

pytestmark = pytest.mark.anyio


def attributes(chance: random.Random) -> dict[str, Any]:
    """Some attributes, some of them missing or unheard of."""
    values: dict[str, Any] = {}
    for feature in chance.sample(MODEL_VIEW.raw_features, chance.randint(1, 14)):
        low, high = feature.valid_range or (0, 0)
        words = [*feature.categories, "unheard of"]
        value = chance.choice(words) if feature.categories else chance.randint(int(low), int(high))
        values[feature.name] = chance.choice([value, value, value, None])
    return values


def bodies(kind: str) -> list[dict[str, Any]]:
    """32 bodies of a kind."""
    chance = random.Random(5)
    by_user = [{"user_id": chance.randint(1, 300)} for _ in range(32)]
    raw = [attributes(chance) for _ in range(32)]
    both = [user | given for user, given in zip(by_user, raw, strict=True)]
    mixed = by_user[:11] + raw[:11] + both[:10]
    chance.shuffle(mixed)
    return {"by user": by_user, "by attributes": raw, "both": both, "mixed": mixed}[kind]


@pytest.mark.parametrize("kind", ["by user", "by attributes", "both", "mixed"])
async def test_alone_and_in_a_batch_of_32_the_answers_and_receipts_have_the_same_bits(
    shared_world: World, kind: str
) -> None:
    asked = bodies(kind)
    async with api_of(shared_world.settings) as api:
        alone = [await api.ask(body) for body in asked]
        batches = api.service.predictor.batches
        together = await api.together(asked)
        assert batches == 32
        assert api.service.predictor.batches - batches == (2 if kind == "mixed" else 1)

    assert [told(answer) for answer in together] == [told(answer) for answer in alone]
    receipts = {str(each["prediction_id"]): each for each in shared_world.stored_predictions()}
    for one, other in zip(alone, together, strict=True):
        pair = [receipts[each.json()["prediction_id"]] for each in (one, other)]
        assert repr(pair[0]["features"]) == repr(pair[1]["features"])
        assert pair[0]["probability"] == pair[1]["probability"] == one.json()["probability"]
        assert pair[0]["flags"] == pair[1]["flags"]
        assert pair[0]["feature_event_time"] == pair[1]["feature_event_time"]


async def test_who_cannot_be_answered_fails_no_neighbour(shared_world: World) -> None:
    good = bodies("mixed")[:12]
    bad = [{"user_id": 999_999}, {"user_id": 2**63}, {"agee": 1}, {}]
    async with api_of(shared_world.settings) as api:
        alone = [told(await api.ask(body)) for body in good]
        answers = await api.together([*bad, *good, *bad])

    assert [answer.status_code for answer in answers[:4]] == [404, 422, 422, 422]
    assert [answer.status_code for answer in answers[-4:]] == [404, 422, 422, 422]
    assert [told(answer) for answer in answers[4:-4]] == alone


async def test_attributes_that_cannot_be_computed_fail_no_neighbour(world: World) -> None:
    arm, scorer = model_of(world, 11, OTHER_RANGE)
    old = under(OTHER_RANGE, random_matrix())
    fill(world, OTHER_RANGE, old)
    world.deploy_arm(arm)
    async with api_of(world.settings) as api:
        answers = await api.together(
            [{"user_id": 1}, {"age": 30}, {"user_id": 2, "age": 30}, {"user_id": 3}]
        )

    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert "feature 'age' changed" in answers[2].json()["error"]
    expected = scorer.predict(old.values[[0, 2]]).tolist()
    assert [answers[0].json()["probability"], answers[3].json()["probability"]] == expected


async def test_a_batch_is_answered_by_one_deployment_and_both_of_its_arms(world: World) -> None:
    world.deploy(1)
    world.start_ab_test(2, share=0.5)
    asked = [{"user_id": user} for user in range(1, 65)]
    async with api_of(world.settings) as api:
        alone = [told(await api.ask(body)) for body in asked]
        batches = api.service.predictor.batches
        together = await api.together(asked)
        assert api.service.predictor.batches - batches == 2

    assert [told(answer) for answer in together] == alone
    assert {answer["arm"] for answer in alone} == {"champion", "challenger"}


async def test_batches_of_one_answer_each_alone(shared_world: World) -> None:
    settings = shared_world.settings
    api_settings = settings.deployment.api.model_copy(update={"batch_rows": 1})
    deployment = settings.deployment.model_copy(update={"api": api_settings})
    async with api_of(settings.model_copy(update={"deployment": deployment})) as api:
        await api.together(bodies("by user"))

        assert api.service.predictor.batches == 32
