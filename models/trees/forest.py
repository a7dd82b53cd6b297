"""The trees of an XGBoost model as arrays: to look into it without the library."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactError

FILE = "trees.npz"
"""Of an artifact: the arrays of its forest."""
NODE_ARRAYS = (
    *("left_children", "right_children", "split_indices", "split_conditions"),
    *("default_left", "split_type", "sum_hessian"),
)


@dataclass(frozen=True)
class Forest:
    """All nodes of all trees, one after the other; ``(m,)`` arrays unless said otherwise.

    Parameters
    ----------
    left, right
        Places of the children; -1 for a leaf.
    feature
        Which feature a node asks for.
    threshold
        Smaller numbers go left; the value of a leaf.
    default_left
        Whether a missing value goes left.
    category_row
        Row of ``goes_right`` for a node that asks for a category, else -1.
    goes_right
        ``(c, k)``: which of ``k`` codes go right; others go left.
    cover
        Weight of the training rows that came through a node.
    roots
        Places of the first nodes, one a tree.
    base
        Log-odds before any tree.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    default_left: NDArray[np.bool_]
    category_row: NDArray[np.int64]
    goes_right: NDArray[np.bool_]
    cover: NDArray[np.float64]
    roots: NDArray[np.int64]
    base: float

    def goes_left(self, row: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which way one vector ``(p,)`` would take at each node ``(m,)``."""
        values = row[self.feature]
        with np.errstate(invalid="ignore"):
            found = values < self.threshold
        asks = np.flatnonzero(self.category_row >= 0)
        if len(asks):
            codes = np.nan_to_num(values[asks], nan=-1).astype(np.int64)
            is_known = (codes >= 0) & (codes < self.goes_right.shape[1])
            right = self.goes_right[self.category_row[asks], np.where(is_known, codes, 0)]
            found[asks] = ~(right & is_known)
        return np.where(np.isnan(values), self.default_left, found)

    def to_npz(self) -> bytes:
        """All arrays as an NPZ file, from which `read_npz` makes an equal forest."""
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **vars(self))
        return file.getvalue()

    @classmethod
    def read_npz(cls, content: bytes) -> Forest:
        """Read what `to_npz` gives; check its hash first.

        Raises
        ------
        ArtifactError
            If it is no such file.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in cls.__dataclass_fields__}
                return cls(**(arrays | {"base": float(arrays["base"])}))
        except Exception as error:  # damaged archives raise errors of many types
            raise ArtifactError(f"The trees cannot be read: {error!r}. Train again.") from error


def forest_of(native: bytes) -> Forest:
    """Give the trees of a model in XGBoost's JSON format.

    Raises
    ------
    ArtifactError
        If it is no model of two classes made of trees.
    """
    try:
        learner = json.loads(native)["learner"]
        objective = learner["objective"]["name"]
        if objective != "binary:logistic" or learner["gradient_booster"]["name"] != "gbtree":
            raise ValueError(f"its objective is {objective}; expected trees of binary:logistic")
        trees = learner["gradient_booster"]["model"]["trees"]
        share = float(str(learner["learner_model_param"]["base_score"]).strip("[]"))
        return _joined(trees, math.log(share) - math.log1p(-share))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(f"The XGBoost model cannot be looked into: {error!r}.") from error


def _joined(trees: Sequence[Mapping[str, Any]], base: float) -> Forest:
    sizes = [len(tree["left_children"]) for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    nodes = {name: np.concatenate([tree[name] for tree in trees]) for name in NODE_ARRAYS}
    offset = np.repeat(roots, sizes)
    left, right = nodes["left_children"].astype(np.int64), nodes["right_children"].astype(np.int64)
    is_leaf = left < 0
    rows, goes_right = _categories(trees, roots, len(left))
    return Forest(
        left=np.where(is_leaf, -1, left + offset),
        right=np.where(is_leaf, -1, right + offset),
        feature=nodes["split_indices"].astype(np.int64),
        threshold=nodes["split_conditions"].astype(np.float32),
        default_left=nodes["default_left"].astype(bool),
        category_row=np.where(is_leaf, -1, rows),
        goes_right=goes_right,
        cover=nodes["sum_hessian"].astype(np.float64),
        roots=roots,
        base=base,
    )


def _categories(
    trees: Sequence[Mapping[str, Any]], roots: NDArray[np.int64], m: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each node its row of the codes that go right, and these rows."""
    rows = np.full(m, -1, dtype=np.int64)
    sets: list[NDArray[np.int64]] = []
    for tree, root in zip(trees, roots.tolist(), strict=True):
        parts = zip(
            tree["categories_nodes"],
            tree["categories_segments"],
            tree["categories_sizes"],
            strict=True,
        )
        for node, start, size in parts:
            rows[root + node] = len(sets)
            sets.append(np.asarray(tree["categories"][start : start + size], dtype=np.int64))
    width = 1 + max((int(codes.max(initial=0)) for codes in sets), default=0)
    goes_right = np.zeros((max(len(sets), 1), width), dtype=bool)
    for row, codes in enumerate(sets):
        goes_right[row, codes] = True
    return rows, goes_right
