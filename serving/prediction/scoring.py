"""Asks each model once for all the requests of a batch that it answers.

While an A/B test runs, three things more are done: where the challenger cannot answer the champion
does, in a paired test the arm that does not answer scores too, and slow answers are noted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence

import numpy as np

from configs.errors import FTIError
from monitoring.log.record import Flags
from serving.errors import ModelUnusable
from serving.prediction.in_flight import InFlightPrediction

_OVER_BUDGET, _FAILED = int(Flags.OVER_BUDGET), int(Flags.CHALLENGER_FAILED)


def score(batch: Sequence[InFlightPrediction]) -> list[InFlightPrediction]:
    """Fill in vector, probability and missing attributes; give those that have a probability."""
    by_arm: dict[int, list[InFlightPrediction]] = {}
    for pending in batch:
        by_arm.setdefault(id(pending.arm), []).append(pending)
    if batch and batch[0].arm.is_in_test:
        _score_test(by_arm.values())
    else:
        for group in by_arm.values():
            _score(group)
    return [pending for pending in batch if not pending.future.done()]


def _score(group: Sequence[InFlightPrediction]) -> None:
    """Score requests of one arm; where they fail together, each is tried alone."""
    try:
        _score_together(group)
    except Exception as error:  # noqa: BLE001 - only the one that is to blame may fail
        if len(group) == 1:
            _give_up(group[0], error)
            return
        for pending in group:
            _score([pending])


def _score_together(group: Sequence[InFlightPrediction]) -> None:
    arm, features = group[0].arm, group[0].features
    values = features.vectors([pending.inputs for pending in group])
    probabilities = arm.model.scorer.predict(values).tolist()
    packed, size = values.tobytes(), values.shape[1] * values.itemsize
    rows = zip(group, probabilities, features.missing.of(values), strict=True)
    for place, (pending, probability, unknowns) in enumerate(rows):
        if 0 <= probability <= 1:
            pending.vector = packed[place * size : (place + 1) * size]
            pending.probability, pending.unknowns = probability, unknowns
        else:
            _give_up(
                pending,
                ModelUnusable(
                    f"{arm.arm.label} answered {probability} where a probability was expected."
                ),
            )


def _give_up(pending: InFlightPrediction, error: Exception) -> None:
    """Fail a request, unless it was the challenger's turn: its failures hurt nobody."""
    fallback = pending.arm.fallback
    is_of_model = isinstance(error, ModelUnusable) or not isinstance(error, FTIError)
    if fallback is None or not is_of_model:
        pending.fail(error)
        return
    pending.arm = fallback
    pending.noted |= _FAILED
    _score([pending])


def _score_test(groups: Collection[Sequence[InFlightPrediction]]) -> None:
    """Score the groups of a test; an arm's answers do not count as slow for the other's time."""
    began, own = time.perf_counter(), []
    for group in groups:
        started = time.perf_counter()
        _score(group)
        own.append(time.perf_counter() - started)
        if group[0].arm.paired is not None:
            _score_paired([each for each in group if not each.future.done()])
    ended = time.perf_counter()
    for group, own_s in zip(groups, own, strict=True):
        others_s = ended - began - own_s
        for pending in group:
            took_s = ended - pending.started - others_s
            if pending.started and took_s > pending.arm.budget_s:  # rows of a batch have no start
                pending.noted |= _OVER_BUDGET


def _score_paired(group: Sequence[InFlightPrediction]) -> None:
    """Let the arm that does not answer score the same vectors; its failures are noted."""
    for pending in group:
        pending.other = math.nan
    asked = [pending for pending in group if not pending.noted & _FAILED]
    model = asked[0].arm.paired if asked else None
    if model is None:
        return
    vectors = np.frombuffer(b"".join([pending.vector for pending in asked]), "<f4")
    try:
        outputs = model.scorer.predict(vectors.reshape(len(asked), -1)).tolist()
    except Exception:  # noqa: BLE001 - whatever it is, the request is answered
        for pending in asked if len(asked) > 1 else []:
            _score_paired([pending])
        return
    for pending, output in zip(asked, outputs, strict=True):
        pending.other = output if 0 <= output <= 1 else math.nan
