"""A controller decides by what is stored, acts once, and leaves word of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import psycopg
import pytest

from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from models.deployment.plan import ExperimentPlan
from models.deployment.promotion import Promoter
from models.deployment.store import DeploymentStore
from models.errors import DeploymentRefused, RegistryUnavailable
from monitoring.experiments.exposure_reader import ExposureReader
from monitoring.experiments.plot import save_plot
from monitoring.experiments.store import ExperimentStore
from monitoring.experiments.verdict import Verdict
from pipelines.experiments.controller import ExperimentController, ExperimentObserver, watch
from pipelines.experiments.views import history_answer, status_answer, summary
from tests.worlds.experiments import START, label, receipt, store
from tests.worlds.registry import EverybodyPasses, Registry

PLAN = ExperimentPlan(
    label_influence=False, label_horizon_s=60, minimum_run_s=600, calibration_margin=1.0
)
SECOND = timedelta(seconds=1)


@dataclass
class World:
    """A test that runs, at a time of its own."""

    url: str
    registry: Registry
    now: datetime = START

    def controller(self) -> ExperimentController:
        """Another controller of the same test."""
        deployments = DeploymentStore(self.connect, "income")
        return ExperimentController(
            ExperimentObserver(
                deployments,
                ExposureReader(Postgres(self.url), MODEL_VIEW.schema),
                lambda: self.now,
            ),
            Promoter(self.registry, deployments, EverybodyPasses(), lambda: self.now),
            ExperimentStore(self.connect, "income"),
        )

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def start(self, share: float = 0.5, plan: ExperimentPlan = PLAN) -> None:
        """Deploy version 1 and test version 2 against it."""
        promoter = self.controller().promoter
        if promoter.store.current() is None:
            promoter.deploy(self.registry.version(1))
        promoter.start_ab_test(self.registry.version(2), share, "salt", plan=plan)

    def answer(self, n: int, champion: float, challenger: float, first: int = 0) -> None:
        """Let n users be answered, a second apart; label 1 for most, known at once."""
        random = np.random.default_rng(first)
        record = self.controller().promoter.store.current()
        arms = random.random(n) < record.challenger.share
        noise = random.normal(0, 0.05, (n, 2))
        receipts = [
            receipt(
                record,
                str(first + user + 1),
                self.now + user * SECOND,
                bool(arms[user]),
                (champion + noise[user, 0], challenger + noise[user, 1]),
            )
            for user in range(n)
        ]
        with self.connect() as connection:
            store(connection, *receipts)
            for user, each in enumerate(receipts):
                known = self.now + user * SECOND + SECOND
                label(connection, int(random.random() < 0.7), known, of=each)
        self.now += n * SECOND + timedelta(seconds=PLAN.label_horizon_s)


@pytest.fixture
def world(database_url) -> World:
    return World(database_url, Registry(3))


def serving(controller: ExperimentController) -> list[str]:
    return [arm.label for arm in controller.promoter.store.current().arms]


def test_a_better_challenger_is_promoted_and_the_record_says_why(world):
    world.start()
    world.answer(800, champion=0.4, challenger=0.7)
    controller = world.controller()

    outcome = controller.decide()

    assert outcome.decision.action == "promote"
    assert serving(controller) == ["income-xgb-v2"]
    [kept] = controller.decisions.of(outcome.decision.experiment)
    assert kept == replace(outcome.decision, evidence=kept.evidence, plan=kept.plan)
    assert (kept.champion, kept.challenger) == ("income-xgb-v1", "income-xgb-v2")
    assert kept.decided_by.startswith("controller (")
    assert kept.decided_at == world.now
    assert kept.evidence["primary"]["n"] == 800
    assert kept.plan == {**PLAN.to_dict(), "ramp": [], "slices": []}
    newest = controller.promoter.store.history()[-1]
    assert newest.reason == f"decision {kept.decision_id} by {kept.decided_by}: {kept.reason}"
    assert summary(kept).startswith("Promoted income-xgb-v2 in place of income-xgb-v1: ")


def test_a_worse_challenger_is_rolled_back_at_once_and_one_command_undoes_a_promotion(world):
    world.start()
    world.answer(300, champion=0.7, challenger=0.2)
    controller = world.controller()

    assert controller.decide().decision.action == "rollback"
    assert serving(controller) == ["income-xgb-v1"]

    world.start()
    controller.overrule(Verdict("promote", ""))
    assert serving(controller) == ["income-xgb-v2"]
    controller.promoter.roll_back()
    assert serving(controller) == ["income-xgb-v1"]


def test_equal_models_go_on_and_only_what_is_new_is_kept(world):
    world.start()
    world.answer(200, champion=0.6, challenger=0.6)
    controller = world.controller()

    first = controller.decide(keep_unchanged=False)
    again = controller.decide(keep_unchanged=False)
    world.answer(50, champion=0.6, challenger=0.6, first=1_000)
    later = controller.decide(keep_unchanged=False)

    assert [each.decision.action for each in (first, again, later)] == ["continue"] * 3
    assert [each.is_new for each in (first, again, later)] == [True, False, True]
    assert len(controller.decisions.all()) == 2
    assert serving(controller) == ["income-xgb-v1", "income-xgb-v2"]


def test_a_ramp_climbs_step_by_step(world):
    world.start(share=0.1, plan=replace(PLAN, ramp=(0.1, 0.25, 0.5), ramp_step_s=300))
    controller = world.controller()

    shares = []
    for step in range(3):
        world.answer(300, champion=0.6, challenger=0.6, first=step * 1_000)
        outcome = controller.decide()
        shares.append((outcome.decision.action, controller.promoter.store.current().arms[1].share))

    assert shares == [("ramp", 0.25), ("ramp", 0.5), ("continue", 0.5)]
    ratios = outcome.decision.evidence["ratios"]
    assert [(each["phase"], each["share"]) for each in ratios[::2]] == [
        (1, 0.1),
        (2, 0.25),
        (3, 0.5),
    ]


def test_of_two_controllers_one_acts(world):
    world.start()
    world.answer(800, champion=0.4, challenger=0.7)
    outcomes, start = [], threading.Barrier(4)

    def decide() -> None:
        controller = world.controller()
        start.wait()
        try:
            outcomes.append(controller.decide())
        except DeploymentRefused as error:
            outcomes.append(error)

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    acted = [each for each in outcomes if hasattr(each, "deployment")]
    assert len(acted) == 1
    # The others found somebody deciding, or nothing left to decide.
    assert all(each is None or "No A/B test" in str(each) for each in outcomes if each not in acted)
    controller = world.controller()
    assert len(controller.decisions.all()) == 1
    actions = [each.action for each in controller.promoter.store.history()]
    assert actions == ["deploy", "start_ab_test", "promote"]


def test_while_one_decides_another_waits_and_takes_over_when_it_dies(world):
    world.start()
    world.answer(100, champion=0.6, challenger=0.6)
    first, second = world.controller(), world.controller()

    turn = first.decisions.alone()
    assert turn.__enter__()
    assert second.decide() is None
    first.decisions.close()  # as when its process dies: the connection ends
    outcome = None
    while outcome is None:  # the server needs a moment to notice
        outcome = second.decide()

    assert outcome.decision.action == "continue"
    turn.__exit__(None, None, None)


def test_what_could_not_be_carried_out_is_kept_and_done_at_the_next_look(world):
    world.start()
    world.answer(800, champion=0.4, challenger=0.7)
    controller = world.controller()
    world.registry.changes_left = 1

    with pytest.raises(RegistryUnavailable):
        controller.decide()
    assert serving(controller) == ["income-xgb-v1", "income-xgb-v2"]
    assert [each.action for each in controller.decisions.all()] == ["promote"]

    assert controller.decide().deployment.action == "promote"
    assert serving(controller) == ["income-xgb-v2"]


def test_a_test_that_ended_meanwhile_is_not_acted_on(world):
    world.start()
    world.answer(800, champion=0.4, challenger=0.7)
    controller = world.controller()
    look = controller.observer.look()
    controller.promoter.roll_back()
    world.controller().promoter.start_ab_test(world.registry.version(3), 0.5, "salt", plan=PLAN)

    with pytest.raises(DeploymentRefused, match="has ended; income-xgb-v3-vs-income-xgb-v1"):
        controller._carry_out(look.decision(look.verdict, "somebody"), None)
    assert serving(controller) == ["income-xgb-v1", "income-xgb-v3"]


def test_watching_goes_on_until_it_is_decided(world):
    world.start()
    world.answer(100, champion=0.55, challenger=0.6)
    seen = []
    for outcome in watch(world.controller(), 0.01):
        seen.append(outcome.decision.action)
        if outcome.deployment is not None:
            continue
        world.answer(700, champion=0.4, challenger=0.7, first=1_000)

    assert seen == ["continue", "promote"]
    with pytest.raises(DeploymentRefused, match="No A/B test is running"):
        next(watch(world.controller(), 0.01))


def test_what_is_shown_and_drawn_is_what_is_known(world, tmp_path):
    world.start()
    world.answer(300, champion=0.4, challenger=0.7)
    controller = world.controller()
    look = controller.observer.look()

    shown = status_answer(look).data
    assert (shown["action"], shown["mode"]) == (look.verdict.action, "paired")
    assert shown["evidence"]["primary"]["n"] == 300
    controller.decide()
    decisions = controller.decisions.all()
    answer = history_answer(decisions, controller.promoter.store.history())
    assert answer.data["decisions"][0]["evidence"]["counted"] == 300
    picture = save_plot(decisions[0], tmp_path / "plots" / "test.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    with picture.open("rb") as old:  # who reads while it is drawn anew finds a whole one
        save_plot(decisions[0], picture)
        assert old.read() == picture.read_bytes()
    # Nothing to draw is no failure.
    empty = replace(decisions[0], evidence={**decisions[0].evidence, "primary": None})
    assert save_plot(empty, tmp_path / "empty.png").stat().st_size > 1_000
