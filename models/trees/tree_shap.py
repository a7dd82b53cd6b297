"""What each feature adds to the log-odds that trees give a row: exact, and from arrays alone.

The Shapley values of the game in which the features of a set are known and the others follow the
training rows ("path-dependent" TreeSHAP; Lundberg, Erion, Lee, "Consistent individualized feature
attribution for tree ensembles", 2018). A leaf of value ``v`` is reached, with a set ``S`` known,
in the share of cases ``prod(o_j for j in S) * prod(z_j for j not in S)`` over the features ``j``
asked on its way: ``o_j`` says whether the row passes all questions about ``j``, ``z_j`` which
share of the training rows did. Its Shapley value for feature ``i`` is

    v * (o_i - z_i) * integral from 0 to 1 of prod(t * o_j + (1 - t) * z_j for j != i) dt,

because the weight of a set of ``k`` of ``d`` others is the integral of ``t**k * (1 - t)**(d - k)``.
The integrand is a polynomial, so Gauss's quadrature with enough points gives it exactly.

By hand, because XGBoost, which explains a row in two thirds of the time, would cost the API process
150 MiB and a second at its first explanation (``python -m benchmarks.single_row_model``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.trees.forest import Forest

Numbers = NDArray[np.float64]
BLOCK_LEAVES = 8_192
"""Leaves that are worked on together: some arrays of half a megabyte."""


@dataclass(frozen=True)
class _Leaves:
    """Some leaves with the ways to them; features on a way are its ``d`` slots, the rest empty.

    Parameters
    ----------
    value
        ``(n,)``.
    feature, share
        ``(n, d)``: which feature, and the share ``z``; 0 and 1 for an empty slot.
    slot, starts
        ``(s,)``: which slots are not empty, counted through ``(n, d)``, and where the questions
        of each begin.
    node, is_left
        ``(q,)``: the questions, and the answers that lead to the leaf.
    """

    value: Numbers
    feature: NDArray[np.int64]
    share: Numbers
    slot: NDArray[np.int64]
    starts: NDArray[np.int64]
    node: NDArray[np.int64]
    is_left: NDArray[np.bool_]

    def passed(self, goes_left: NDArray[np.bool_]) -> Numbers:
        """The ``o`` of each slot ``(n, d)`` for a row that goes so at each node."""
        found = np.ones(self.share.shape)
        if len(self.slot):
            agrees = goes_left[self.node] == self.is_left
            found.ravel()[self.slot] = np.logical_and.reduceat(agrees, self.starts)
        return found


class TreeExplainer:
    """Explains rows by the trees of one model.

    Parameters
    ----------
    forest
        The trees.
    p
        How many features there are.
    """

    def __init__(self, forest: Forest, p: int) -> None:
        self.forest = forest
        self.p = p
        ways = [way for root in forest.roots.tolist() for way in _ways(forest, root)]
        depth = max(1, *(len(way.features) for way in ways))
        points, weights = np.polynomial.legendre.leggauss(depth // 2 + 1)
        self._points: Numbers = (points + 1) / 2
        self._weights: Numbers = weights / 2
        self._blocks = [
            _leaves(ways[start : start + BLOCK_LEAVES], depth)
            for start in range(0, len(ways), BLOCK_LEAVES)
        ]
        expected = sum(float(leaf.value @ leaf.share.prod(axis=1)) for leaf in self._blocks)
        self.base = forest.base + expected

    def contributions(self, row: NDArray[np.float32]) -> Numbers:
        """What each feature adds to ``base`` for one vector ``(p,)``: float64 ``(p,)``."""
        goes_left = self.forest.goes_left(row)
        total = np.zeros(self.p)
        for leaves in self._blocks:
            passed = leaves.passed(goes_left)
            added = leaves.value[:, np.newaxis] * (passed - leaves.share)
            added *= self._integral(passed, leaves.share)
            total += np.bincount(leaves.feature.ravel(), added.ravel(), minlength=self.p)
        return total

    def _integral(self, passed: Numbers, share: Numbers) -> Numbers:
        """The integral over the product of all slots but one, for each slot ``(n, d)``."""
        found = np.zeros(share.shape)
        for t, weight in zip(self._points.tolist(), self._weights.tolist(), strict=True):
            factors = t * passed + (1 - t) * share
            before, after = np.ones(share.shape), np.ones(share.shape)
            # Products of what stands before and behind: a factor may be 0, so none is divided by.
            np.cumprod(factors[:, :-1], axis=1, out=before[:, 1:])
            np.cumprod(factors[:, :0:-1], axis=1, out=after[:, -2::-1])
            found += weight * before * after
        return found


@dataclass
class _Way:
    """A leaf, and for each feature on the way to it the share and the questions."""

    value: float
    features: dict[int, tuple[float, list[tuple[int, bool]]]]


def _ways(forest: Forest, root: int) -> Iterator[_Way]:
    """All leaves of a tree."""
    waiting: list[tuple[int, dict[int, tuple[float, list[tuple[int, bool]]]]]] = [(root, {})]
    while waiting:
        node, so_far = waiting.pop()
        left, right = int(forest.left[node]), int(forest.right[node])
        if left < 0:
            yield _Way(float(forest.threshold[node]), so_far)
            continue
        feature, cover = int(forest.feature[node]), float(forest.cover[node])
        share, questions = so_far.get(feature, (1.0, []))
        for child, is_left in ((left, True), (right, False)):
            ratio = float(forest.cover[child]) / cover if cover > 0 else 0.5
            step = share * ratio, [*questions, (node, is_left)]
            waiting.append((child, so_far | {feature: step}))


def _leaves(ways: list[_Way], depth: int) -> _Leaves:
    shape = len(ways), depth
    feature, share = np.zeros(shape, dtype=np.int64), np.ones(shape)
    slots: list[int] = []
    starts: list[int] = []
    questions: list[tuple[int, bool]] = []
    for place, way in enumerate(ways):
        for slot, (asked, (ratio, steps)) in enumerate(way.features.items()):
            feature[place, slot], share[place, slot] = asked, ratio
            slots.append(place * depth + slot)
            starts.append(len(questions))
            questions += steps
    return _Leaves(
        value=np.array([way.value for way in ways]),
        feature=feature,
        share=share,
        slot=np.array(slots, dtype=np.int64),
        starts=np.array(starts, dtype=np.int64),
        node=np.array([node for node, _ in questions], dtype=np.int64),
        is_left=np.array([is_left for _, is_left in questions], dtype=bool),
    )
