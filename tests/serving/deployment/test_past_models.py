"""Models that serve no longer, from a registry that may be slow."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from infrastructure.work import WorkPool
from models.deployment.record import Arm
from serving.deployment.past_models import PastModels
from serving.errors import ModelUnusable, TookTooLong

ARM = Arm("champion", 1, "income-xgb-v1", "mlflow-artifacts:/1/model", "a" * 64, 0, 10_000)


class Registry:
    """Gives a model when it is told to, or fails then."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.answers = threading.Event()
        self.asked = 0

    def load(self, arm: Arm) -> str:
        self.asked += 1
        assert self.answers.wait(10)
        if self.fails:
            raise ModelUnusable("its artifact was altered")
        return f"model of {arm.label}"


class NothingLive:
    live = None


def past(registry: Registry) -> PastModels:
    parts: Any = (NothingLive(), registry, None)
    pool = WorkPool("models are being loaded", 2, room=2, wait_s=5, limit_s=10)
    return PastModels(*parts, "income-predictor", pool, limit_s=0.05)


def test_who_asks_while_a_model_is_fetched_is_told_so_and_a_later_one_has_it():
    async def story() -> list[Any]:
        models = past(registry)
        early = await asyncio.gather(*[models.load(ARM) for _ in range(3)], return_exceptions=True)
        registry.answers.set()
        late = [await models.load(ARM) for _ in range(2)]
        return [*early, *late]

    registry = Registry()
    *early, first, second = asyncio.run(story())
    assert {type(error) for error in early} == {TookTooLong}
    assert str(early[0]).startswith("income-xgb-v1 could not be fetched within 0.05 s.")
    assert first == second == "model of income-xgb-v1"
    assert registry.asked == 1


def test_a_fetch_that_fails_is_tried_again_by_the_next():
    async def story() -> None:
        models = past(registry)
        registry.answers.set()
        for _ in range(2):
            with pytest.raises(ModelUnusable, match="altered"):
                await models.load(ARM)
        registry.fails = False
        assert cast(Any, await models.load(ARM)) == "model of income-xgb-v1"

    registry = Registry(fails=True)
    asyncio.run(story())
    assert registry.asked == 3
