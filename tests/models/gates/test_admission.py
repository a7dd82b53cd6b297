"""Versions before the gates: judged, refused, forced, judged anew, in real stores."""

import json
from dataclasses import replace

import pytest

from models import connect
from models.command_line.checks import find_faults
from models.errors import DeploymentRefused
from tests.worlds.models import POOR, World


def test_a_version_that_passed_is_deployed_and_one_that_failed_is_not(world: World):
    good, poor = world.train(), world.train(**POOR)
    assert good.tags["gates"] == "passed"
    assert good.tags["gates_against"] == "none"
    assert poor.tags["gates"] == "failed"
    assert "calibration: expected calibration error" in poor.tags["gates_reason"]
    promoter = world.promoter
    for move in (lambda: promoter.deploy(poor), lambda: promoter.set_stage(poor, "Staging")):
        with pytest.raises(DeploymentRefused, match=r"may not leave None: calibration: .*--force"):
            move()
    assert world.registry.find(poor.label).stage == "None"

    promoter.deploy(good)
    assert world.registry.find(good.label).stage == "Production"
    assert promoter.set_stage(poor, "Archived")  # to throw it away needs nobody's leave


def test_a_version_that_nobody_judged_is_refused_until_it_is(world: World):
    version = world.train(is_judged=False)
    admission = world.promoter.admission
    with pytest.raises(DeploymentRefused, match=r"was never judged, so it stays in None\. "):
        admission.admit(version, None)
    # What a stock client writes into the tags counts for nothing.
    world.registry.set_tags(version, {"gates": "passed"})
    with pytest.raises(DeploymentRefused, match="never judged"):
        admission.admit(version, None)

    decision = admission.judge_and_record(version, None)
    assert decision.passed
    assert admission.admit(version, None) is None
    assert world.decisions.of(version) == [decision]


def test_another_artifact_under_the_same_number_was_never_judged(world: World):
    version = world.train()
    swapped = replace(version, digest="0" * 64)
    with pytest.raises(DeploymentRefused, match="never judged"):
        world.promoter.admission.admit(swapped, None)


def test_a_decision_against_an_earlier_champion_is_made_anew(world: World):
    fair = world.train(n_estimators=15, max_depth=1)  # passes while nothing serves
    good = world.train()
    assert world.decision(fair).passed
    promoter = world.promoter
    promoter.deploy(good)

    with pytest.raises(DeploymentRefused, match=f"log_loss: .* worse than {good.label}"):
        promoter.deploy(fair)
    decision = world.decision(fair)
    assert (decision.champion, decision.champion_digest) == (good.label, good.digest)
    assert world.registry.find(fair.label).tags["gates"] == "failed"


def test_models_with_and_without_protected_features_are_compared_by_slices(world: World):
    whole = world.train()
    world.promoter.deploy(whole)
    blind = world.train(exclude_protected=True)
    decision = world.decision(blind)
    slices = {each.gate for each in decision.results if each.gate.startswith("slice ")}
    assert slices == {"slice sex=Female", "slice sex=Male"}  # which it does not take
    assert decision.champion == whole.label
    again = world.promoter.admission.judge(blind, world.promoter.store.current().champion)
    measured = {each.gate: each.value for each in again.results if each.gate != "latency"}
    assert measured == {e.gate: e.value for e in decision.results if e.gate != "latency"}

    world.promoter.deploy(blind, force="to compare the other way")
    other = world.train(seed=102)
    assert world.decision(other).champion == blind.label
    assert "neither model learned from" in world.decision(other).results[2].reason
    assert find_faults(world.registry, world.registry.versions(), world.settings) == []


def test_force_is_recorded_with_who_when_why_and_what_was_overruled(world: World):
    poor = world.train(**POOR)
    promoter = world.promoter
    with pytest.raises(DeploymentRefused, match="--force needs a reason"):
        promoter.deploy(poor, force=" ")
    promoter.deploy(poor, reason="fire drill", force="nothing else is there")

    [override] = promoter.store.overrides()
    assert override.label == poor.label
    assert override.reason == "nothing else is there"
    assert override.actor
    assert override.forced_at.tzinfo is not None
    assert "calibration" in override.overruled
    assert world.registry.find(poor.label).stage == "Production"


def test_force_that_was_not_needed_leaves_no_mark(world: World):
    good = world.train()
    promoter = world.promoter
    promoter.deploy(good, force="just in case")
    assert promoter.store.overrides() == []


def test_the_decision_in_the_database_holds_every_number(world: World):
    version = world.train()
    with connect.postgres(world.settings)() as connection:
        [(stored,)] = connection.execute("SELECT decision FROM model_gate_decisions").fetchall()
    gates = {each["gate"]: each for each in stored["results"]}
    assert {"schema", "parity", "log_loss", "brier", "calibration", "latency", "size"} <= set(gates)
    assert 0 < gates["parity"]["value"] < gates["parity"]["limit"] == 1e-5
    assert gates["latency"]["value"] > 0
    assert json.dumps(stored)
    assert stored["digest"] == version.digest
