"""A logged prediction once more: the same vector, the same version, and whether it is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.log.receipts import Receipt, ScoredOutput
from serving.deployment.live import DeploymentWatcher
from serving.errors import ModelUnusable
from serving.model_loader import LoadedModel
from serving.routes.past_models import PastModels


@dataclass(frozen=True)
class ReplayedArm:
    """What one scored arm answered then and answers now; None where it cannot be asked."""

    arm: str
    model_version: str
    digest: str | None
    logged: float | None
    replayed: float | None

    @property
    def is_equal(self) -> bool:
        """Whether both are the same bits."""
        return self.logged == self.replayed


@dataclass(frozen=True)
class Replay:
    """A logged prediction and its repetition.

    Parameters
    ----------
    equal
        Whether every scored arm answered the same bits again.
    differs
        What is not as it was, in words; empty when everything is.
    """

    prediction_id: str
    equal: bool
    differs: list[str]
    logged_engine: str
    engine: str
    arms: list[ReplayedArm]


async def replay(receipt: Receipt, models: PastModels, watcher: DeploymentWatcher) -> Replay:
    """Score the logged vector with the logged versions.

    Raises
    ------
    StoreUnavailable
        If it cannot be found out which artifact a version was.
    """
    arms, differs = [], []
    if receipt.engine != watcher.engine:
        differs.append(f"engine: logged '{receipt.engine}', here '{watcher.engine}'")
    for scored in receipt.scored:
        try:
            model = await models.find(receipt.generation, scored)
        except ModelUnusable as error:
            differs.append(f"model: {error}")
            arms.append(_arm(scored, None, None))
            continue
        problem = _mismatch(receipt, scored, model)
        if problem is not None:
            differs.append(problem)
            arms.append(_arm(scored, model.digest, None))
            continue
        answered = await asyncio.to_thread(model.probability, receipt.vector)
        arms.append(_arm(scored, model.digest, answered))
    differs += _different_answers(arms)
    equal = all(arm.is_equal for arm in arms)
    return Replay(receipt.prediction_id, equal, differs, receipt.engine, watcher.engine, arms)


def _arm(scored: ScoredOutput, digest: str | None, replayed: float | None) -> ReplayedArm:
    return ReplayedArm(scored.arm, scored.model_version, digest, scored.probability, replayed)


def _mismatch(receipt: Receipt, scored: ScoredOutput, model: LoadedModel) -> str | None:
    """Say why a vector is none of this model's."""
    if receipt.schema_fingerprint == model.schema.fingerprint:
        return None
    return (
        f"schema: the vector follows {receipt.schema_fingerprint}, {scored.model_version} takes "
        f"{model.schema.fingerprint}"
    )


def _different_answers(arms: Sequence[ReplayedArm]) -> list[str]:
    return [
        f"answer of {arm.model_version}: logged {arm.logged!r}, here {arm.replayed!r}, "
        f"{abs(arm.replayed - arm.logged):.2g} apart"
        for arm in arms
        if arm.replayed is not None and arm.logged is not None and not arm.is_equal
    ]
