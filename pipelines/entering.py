"""Whether a version that a schedule has trained is worth a test against the champion."""

from __future__ import annotations

from contextlib import closing

from configs.settings import Settings
from models.connect import decision_store, deployment_store, model_registry


def why_not_entered(settings: Settings, label: str) -> str | None:
    """Why a version must not be entered now, in words; None when it may be.

    A version enters once: what lost a test would lose the next one too, and another test is not
    disturbed. What the gates refused against the present champion is not asked about again.
    """
    with closing(deployment_store(settings)) as store:
        current, past = store.current(), store.history()
    if current is None:
        return None
    if current.champion.label == label:
        return "it is the champion already"
    other = current.challenger
    if other is not None:
        return None if other.label == label else f"{other.label} is under test"
    if label in {arm.label for each in past for arm in each.arms}:
        return f"it was deployed before, and {current.champion.label} came after it"
    decision = decision_store(settings).newest(model_registry(settings).find(label))
    if decision is None or decision.passed or decision.champion_digest != current.champion.digest:
        return None
    return "; ".join(f"{each.gate}: {each.reason}" for each in decision.failed)
