"""Asks each model once for all the requests of a batch that it answers."""

from __future__ import annotations

from collections.abc import Sequence

from serving.errors import ModelUnusable
from serving.pending import Pending


def score(batch: Sequence[Pending]) -> list[Pending]:
    """Fill in vector, probability and missing attributes; give those that have a probability."""
    by_arm: dict[int, list[Pending]] = {}
    for pending in batch:
        by_arm.setdefault(id(pending.arm), []).append(pending)
    for group in by_arm.values():
        _score(group)
    return [pending for pending in batch if not pending.future.done()]


def _score(group: Sequence[Pending]) -> None:
    """Score requests of one arm; where they fail together, each is tried alone."""
    try:
        _score_together(group)
    except Exception as error:  # noqa: BLE001 - only the one that is to blame may fail
        if len(group) == 1:
            group[0].fail(error)
            return
        for pending in group:
            _score([pending])


def _score_together(group: Sequence[Pending]) -> None:
    arm, features = group[0].arm, group[0].features
    values = features.vectors([pending.asked for pending in group])
    probabilities = arm.model.scorer.predict(values).tolist()
    packed, size = values.tobytes(), values.shape[1] * values.itemsize
    rows = zip(group, probabilities, features.missing.of(values), strict=True)
    for place, (pending, probability, missing) in enumerate(rows):
        if 0 <= probability <= 1:
            pending.vector = packed[place * size : (place + 1) * size]
            pending.probability, pending.missing = probability, missing
        else:
            pending.fail(
                ModelUnusable(
                    f"{arm.arm.label} answered {probability} where a probability was expected."
                )
            )
