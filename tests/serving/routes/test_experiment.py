"""A test that runs, as requests see it: who answers, who scores, and what the receipts say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from models.connect import postgres
from models.deployment.plan import ExperimentPlan
from monitoring.experiments.store import ExperimentDecision, ExperimentStore
from tests.serving.in_process import Api, api_of, told
from tests.worlds.artifacts import scorer
from tests.worlds.serving import World

pytestmark = pytest.mark.anyio

PAIRED = ExperimentPlan(label_influence=False, latency_budget_ms=60_000)
SPLIT = ExperimentPlan(label_influence=True, latency_budget_ms=60_000)
ASKED = [{"user_id": user} for user in range(1, 33)]


def receipts(world: World) -> list[dict[str, Any]]:
    return world.stored_predictions()


def answered_by(world: World, version: int) -> list[float]:
    """What a version says of the first users."""
    return scorer(version).predict(world.matrix.values[: len(ASKED)]).tolist()


async def ask(world: World, asked: list[dict[str, Any]] = ASKED) -> list[dict[str, Any]]:
    async with api_of(world.settings) as api:
        answers = await api.together(asked)
        assert [answer.status_code for answer in answers] == [200] * len(asked)
        return [answer.json() for answer in answers]


async def test_in_a_paired_test_both_arms_score_and_one_answers(world):
    world.deploy(1)
    deployment = world.start_ab_test(2, 0.5, PAIRED)
    answers = await ask(world)

    both = list(zip(answered_by(world, 1), answered_by(world, 2), strict=True))
    rows = {row["user_id"]: row for row in receipts(world)}
    for user, (answer, outputs) in enumerate(zip(answers, both, strict=True), start=1):
        row = rows[user]
        assert answer["probability"] == outputs[answer["arm"] == "challenger"]
        assert [each["arm"] for each in row["scored"]] == ["champion", "challenger"]
        assert [each["probability"] for each in row["scored"]] == list(outputs)
        assert [each["threshold"] for each in row["scored"]] == [0.5, 0.5]
        assert (row["arm"], row["probability"]) == (answer["arm"], answer["probability"])
        assert (row["experiment"], row["generation"]) == (deployment.experiment, 2)
        assert (row["propensity"], row["unit"], row["flags"]) == (0.5, str(user), [])
    assert {answer["arm"] for answer in answers} == {"champion", "challenger"}


async def test_in_a_split_only_the_arm_that_answers_scores(world):
    world.deploy(1)
    world.start_ab_test(2, 0.3, SPLIT)
    answers = await ask(world)

    rows = {row["user_id"]: row for row in receipts(world)}
    for user, answer in enumerate(answers, start=1):
        [scored] = rows[user]["scored"]
        assert (scored["arm"], scored["probability"]) == (answer["arm"], answer["probability"])
        assert rows[user]["propensity"] == pytest.approx(0.3 if scored["version"] == 2 else 0.7)


def break_challenger(api: Api, monkeypatch, how: str) -> None:
    """Let the challenger's model fail as a model does: it raises, or says what is no answer."""
    live = api.service.follower.live
    model = live.arms[1].model.scorer

    def predict(values):
        if how == "raises":
            raise RuntimeError("the model is broken")
        return np.full(len(values), np.nan)

    monkeypatch.setattr(model, "predict", predict)


@pytest.mark.parametrize("how", ["raises", "answers nan"])
@pytest.mark.parametrize("plan", [PAIRED, SPLIT], ids=["paired", "split"])
async def test_a_challenger_that_fails_hurts_nobody_and_is_noted(world, monkeypatch, how, plan):
    world.deploy(1)
    world.start_ab_test(2, 0.5, plan)
    async with api_of(world.settings) as api:
        assigned = [told(each)["arm"] for each in await api.together(ASKED)]
        n_before = len(ASKED)
        break_challenger(api, monkeypatch, how)
        answers = [told(each) for each in await api.together(ASKED)]

    assert [each["probability"] for each in answers] == answered_by(world, 1)
    assert not any(each["degraded"] for each in answers)
    later = receipts(world)[n_before:]
    for row in later:
        turn = assigned[row["user_id"] - 1]
        assert row["arm"] == "champion"
        assert row["flags"] == (["challenger_failed"] if turn == "challenger" else [])
        assert row["propensity"] == 0.5
        said = [each["probability"] for each in row["scored"]]
        assert said == ([row["probability"], None] if plan is PAIRED else [row["probability"]])


async def test_a_receipt_of_a_failed_challenger_is_shown_and_replayed(world, monkeypatch):
    world.deploy(1)
    world.start_ab_test(2, 0.5, PAIRED)
    async with api_of(world.settings) as api:
        with monkeypatch.context() as patch:
            break_challenger(api, patch, "raises")
            answer = (await api.ask({"user_id": 7})).json()
        path = f"/predictions/{answer['prediction_id']}"
        shown = (await api.client.get(path)).json()
        replayed = (await api.client.post(f"{path}/replay")).json()

    assert [each["probability"] for each in shown["scored"]] == [answer["probability"], None]
    assert (replayed["equal"], replayed["arms"][0]["replayed"]) == (False, answer["probability"])


async def test_an_override_decides_and_has_no_chance(world):
    world.deploy(1)
    world.start_ab_test(2, 0.01, SPLIT)
    world.override("7", "challenger")
    world.override("session-9", "challenger")
    asked = [{"user_id": 7}, {"unit_id": "session-9", "age": 40}, {"user_id": 8}]
    answers = await ask(world, asked)

    assert [each["arm"] for each in answers] == ["challenger", "challenger", "champion"]
    assert sorted(row["propensity"] for row in receipts(world)) == [0.99, 1.0, 1.0]


async def test_answers_over_the_budget_are_noted_and_not_degraded(world):
    world.deploy(1)
    world.start_ab_test(2, 0.5, ExperimentPlan(label_influence=False, latency_budget_ms=1e-6))
    answers = await ask(world)

    assert {tuple(row["flags"]) for row in receipts(world)} == {("over_budget",)}
    assert not any(each["degraded"] for each in answers)


async def test_batches_are_exposures_too_and_have_no_latency(world):
    world.deploy(1)
    world.start_ab_test(2, 0.5, ExperimentPlan(label_influence=False, latency_budget_ms=1e-6))
    async with api_of(world.settings) as api:
        answer = await api.client.post("/predict/batch", json={"rows": ASKED})
        assert answer.status_code == 200, answer.text

    rows = receipts(world)
    assert len(rows) == len(ASKED)
    assert all(len(row["scored"]) == 2 and row["flags"] == [] for row in rows)


async def test_who_names_neither_user_nor_unit_is_its_own_unit(world):
    world.deploy(1)
    world.start_ab_test(2, 0.5, PAIRED)
    await ask(world, [{"age": 30}, {"age": 30, "unit_id": "session-1"}])

    units = {row["unit"] for row in receipts(world)}
    [own] = units - {"session-1"}
    assert UUID(own) in {row["prediction_id"] for row in receipts(world)}


async def test_the_running_test_and_its_decisions_are_shown(world):
    world.deploy(1)
    async with api_of(world.settings) as api:
        nothing = (await api.client.get("/experiment")).json()
        assert nothing == {"running": None, "decisions": []}

    deployment = world.start_ab_test(2, 0.1, PAIRED)
    store = ExperimentStore(postgres(world.settings), world.settings.model_name)
    decision = ExperimentDecision(
        experiment=deployment.experiment,
        champion="income-xgb-v1",
        challenger="income-xgb-v2",
        generation=2,
        action="continue",
        reason="undecided",
        decided_by="controller (ops)",
        decided_at=datetime(2026, 1, 1, tzinfo=UTC),
        plan=PAIRED.to_dict(),
        evidence={"units": 3},
    )
    numbers = [store.add(decision) for _ in range(3)]
    store.close()
    async with api_of(world.settings) as api:
        shown = (await api.client.get("/experiment?limit=2")).json()

    running = shown["running"]
    assert (running["name"], running["mode"]) == (deployment.experiment, "paired")
    assert [each["share"] for each in running["arms"]] == [0.9, 0.1]
    assert running["plan"]["latency_budget_ms"] == 60_000
    assert [each["decision_id"] for each in shown["decisions"]] == numbers[:0:-1]
    assert shown["decisions"][0]["evidence"] == {"units": 3}
