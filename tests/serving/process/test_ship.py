"""What waits on a host goes to PostgreSQL at a word: before the host goes away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from configs.settings import ROOT
from serving.process.ship import ship
from tests.worlds.serving import World, running_api

NOT_BY_ITSELF = {"FTI_MONITORING__PREDICTION_LOG__SHIP_INTERVAL_MS": "3600000"}


def say_ship(world: World, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving", "ship", "--limit-s", "1"],
        cwd=ROOT,
        env={**os.environ, **world.api_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_receipts_are_shipped_beside_a_running_api_and_each_once(world: World) -> None:
    world.deploy(1)
    with running_api(world, **NOT_BY_ITSELF) as api:
        ids = [api.post("/predict", json={"user_id": n}).json()["prediction_id"] for n in (1, 2, 3)]
        first, second = say_ship(world), say_ship(world)
        assert (first.returncode, first.stdout) == (0, "✓ Shipped 3 records\n"), first.stderr
        assert (second.returncode, second.stdout) == (0, "✓ Shipped 0 records\n")
        assert [str(row["prediction_id"]) for row in world.stored_predictions()] == ids
        assert "fti_deployment_challenger_share 0.0" in api.get("/metrics").text
        world.start_ab_test(2, share=0.25)
        api.until_generation(2)
        assert "fti_deployment_challenger_share 0.25" in api.get("/metrics").text
    assert len(world.stored_predictions()) == 3


def test_without_postgresql_it_says_that_nothing_is_lost(world: World) -> None:
    world.deploy(1)
    with running_api(world, **NOT_BY_ITSELF) as api:
        api.post("/predict", json={"user_id": 1})
        gone = say_ship(world, DATABASE_URL="postgresql://127.0.0.1:1/gone")
        assert gone.returncode == 1
        assert gone.stderr.startswith("✗ Not all is shipped: ")
        assert "stays on the disk" in gone.stderr
        assert "Traceback" not in gone.stderr
        assert say_ship(world).stdout == "✓ Shipped 1 records\n"


def test_it_tries_again_until_the_time_is_up() -> None:
    class Failing:
        tries = 0

        def run_once(self) -> int:
            self.tries += 1
            if self.tries < 3:
                raise OSError("not yet")
            return 7

    failing = Failing()
    assert ship(failing, deadline_s=float("inf")) == 7
    with pytest.raises(OSError, match="not yet"):
        ship(Failing(), deadline_s=0)
