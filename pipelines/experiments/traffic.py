"""Held-out people who ask the API for predictions, and whose labels come later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np

from configs.settings import Settings
from models.connect import artifact_cache, champion_of, history
from models.deployment.record import Deployment
from models.gates.held_out import split_of
from serving.ab_testing import bucket_of, choose

AT_ONCE = 16
PER_SECOND = 500
LABELS_EVERY_S = 0.1
LATEST_S = (0.3, 1.5)
"""Labels of 0 and of 1 come within so long: what happens takes longer to be known."""
PAUSES_S = (0.2, 1.0, 5.0)
LOST = 0.05
"""Share of labels that never come."""


@dataclass(frozen=True)
class Person:
    """A user from whom no model has learned, and what is true of them."""

    user_id: int
    label: int


def held_out_people(settings: Settings) -> list[Person]:
    """The test rows of the champion's training, in an order of their own."""
    champion = champion_of(settings)
    assert champion is not None
    artifact = artifact_cache(settings).get(champion.artifact_uri, champion.digest)
    test = split_of(artifact, history(settings).rows(artifact).rows).test
    places = np.random.default_rng(7).permutation(len(test))
    keys, labels = test.features.keys[places].tolist(), test.labels[places].tolist()
    return [Person(key, label) for key, label in zip(keys, labels, strict=True)]


def loses_challengers(deployment: Deployment, share: float) -> Callable[[Person], bool]:
    """Give a faulty router's choice: of the people with the challenger it loses a share."""
    random = np.random.default_rng(8)

    def is_lost(person: Person) -> bool:
        place = choose(deployment.arms, bucket_of(str(person.user_id), deployment.salt))
        return place == 1 and bool(random.random() < share)

    return is_lost


@dataclass
class SimulatedTraffic:
    """Sends people to the API and reports their labels when they become known.

    Parameters
    ----------
    api
        URL of the API.
    goes_on
        Called again and again; False ends the traffic.
    """

    api: str
    goes_on: Callable[[], bool]
    answered: int = 0
    _due: list[tuple[float, str, int]] = field(default_factory=list)

    def run(self, people: Sequence[Person], horizon_s: float) -> None:
        """Send people until all were answered, or `goes_on` says no.

        Labels are waited for as long as the horizon.
        """
        asyncio.run(self._run(people, horizon_s))

    async def _run(self, people: Sequence[Person], horizon_s: float) -> None:
        random = np.random.default_rng(9)
        async with httpx.AsyncClient(base_url=self.api, timeout=30) as client:
            reporting = asyncio.create_task(self._report(client))
            began, waiting = time.monotonic(), iter(people)
            await asyncio.gather(
                *[self._ask(client, waiting, began, random) for _ in range(AT_ONCE)]
            )
            last = time.monotonic() + horizon_s + 1
            while self.goes_on() and time.monotonic() < last:
                await asyncio.sleep(LABELS_EVERY_S)
            reporting.cancel()

    async def _ask(
        self,
        client: httpx.AsyncClient,
        waiting: object,
        began: float,
        random: np.random.Generator,
    ) -> None:
        for person in waiting:  # type: ignore[attr-defined]
            if not self.goes_on():
                return
            self.answered += 1
            ahead_s = began + self.answered / PER_SECOND - time.monotonic()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            answer = await _post(client, "/predict", {"user_id": person.user_id})
            if random.random() >= LOST:
                delay_s = random.uniform(0, LATEST_S[person.label])
                due = time.monotonic() + delay_s
                self._due.append((due, answer.json()["prediction_id"], person.label))

    async def _report(self, client: httpx.AsyncClient) -> None:
        while True:
            await asyncio.sleep(LABELS_EVERY_S)
            now = time.monotonic()
            known = [each for each in self._due if each[0] <= now]
            self._due = [each for each in self._due if each[0] > now]
            if known:
                labels = [{"prediction_id": of, "label": label} for _, of, label in known]
                await _post(client, "/feedback", {"labels": labels})


async def _post(client: httpx.AsyncClient, path: str, body: object) -> httpx.Response:
    """Send a request as callers do: what fails for a moment is tried again."""
    for pause_s in (*PAUSES_S, None):
        try:
            answer = await client.post(path, json=body)
            answer.raise_for_status()
        except httpx.HTTPError:
            if pause_s is None:
                raise
            await asyncio.sleep(pause_s)
        else:
            return answer
    raise AssertionError("the last try returns or raises")
