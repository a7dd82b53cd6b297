"""Trees as one node of an ONNX graph in which every split compares a number.

A split by category asks whether a code is in a set. As a chain of comparisons with each code it
would make trees twice as large, with splits of several kinds, for which ONNX Runtime takes a third
longer. So each set that occurs becomes a column beside the features, 1 for the codes that go right,
and the columns of a row are looked up in a table by its codes.

By hand, because XGBoost's library takes 14 times as long for one row
(``python -m benchmarks.single_row_model``) and would be loaded into the API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.onnx.graph import INT32, ML_DOMAIN, Graph
from models.onnx.scorer import INPUT
from models.trees.forest import Forest

BLOCK = 32
"""Columns that are looked up at once; the sets of a feature fill one block or more."""

_Set = tuple[int, bytes]
"""A feature, and which of its codes go right."""


def trees_to_onnx(forest: Forest, p: int) -> bytes:
    """Give the graph of one forest: ``features`` (n, p) in, ``probability`` (n, 2) out.

    The classifier adds up row by row, so a row has the same bits in every batch; a separate sigmoid
    would be vectorised and would not.
    """
    graph = Graph(p)
    columns = _Columns(graph, [forest])
    attributes, values = _nodes([forest], columns, "class")
    _, probabilities = graph.add(
        "TreeEnsembleClassifier",
        columns.name,
        outputs=2,
        domain=ML_DOMAIN,
        base_values=[forest.base],
        classlabels_int64s=[0, 1],
        post_transform="LOGISTIC",
        class_weights=values.tolist(),
        **attributes,
    )
    return graph.finish(probabilities)


def add_trees(graph: Graph, forests: Sequence[Forest], share: float) -> str:
    """Add the sum of ``share`` times the logit of each forest, ``(n, 1)``, to a graph."""
    columns = _Columns(graph, forests)
    attributes, values = _nodes(forests, columns, "target")
    return str(
        graph.add(
            "TreeEnsembleRegressor",
            columns.name,
            domain=ML_DOMAIN,
            n_targets=1,
            base_values=[share * sum(forest.base for forest in forests)],
            target_weights=(share * values.astype(np.float64)).tolist(),
            **attributes,
        )
    )


class _Columns:
    """The features, and behind them a column for each set of codes that a split asks for."""

    def __init__(self, graph: Graph, forests: Sequence[Forest]) -> None:
        self._places: dict[_Set, int] = {}
        self.name = INPUT
        sets = _sets(forests)
        if sets:
            self._look_up(graph, sets)

    def of(self, forest: Forest) -> NDArray[np.int64]:
        """The column that each node of a forest compares."""
        columns = forest.feature.copy()
        for node in _asking(forest):
            columns[node] = self._places[_set_of(forest, node)]
        return columns

    def _look_up(self, graph: Graph, sets: Sequence[_Set]) -> None:
        # One code more than any set knows, for all that none knows: it goes left.
        n_codes = 1 + max(len(goes_right) for _, goes_right in sets)
        asked: list[int] = []
        blocks: list[NDArray[np.float32]] = []
        for feature in sorted({feature for feature, _ in sets}):
            own = [each for each in sets if each[0] == feature]
            for start in range(0, len(own), BLOCK):
                block = np.zeros((n_codes, BLOCK), dtype=np.float32)
                for place, each in enumerate(own[start : start + BLOCK]):
                    block[: len(each[1]), place] = np.frombuffer(each[1], bool)
                    self._places[each] = graph.p + len(blocks) * BLOCK + place
                asked.append(feature)
                blocks.append(block)
        whole = graph.constant(np.concatenate(blocks))
        codes = graph.add("Gather", INPUT, graph.constant(asked, np.int64), axis=1)
        limits = [graph.constant(limit, np.int32) for limit in (0, n_codes - 1)]
        codes = graph.add("Clip", graph.add("Cast", codes, to=INT32), *limits)
        starts = graph.constant(np.arange(len(blocks)) * n_codes, np.int32)
        found = graph.add("Gather", whole, graph.add("Add", codes, starts), axis=0)
        wide = graph.reshape(found, -1, len(blocks) * BLOCK)
        self.name = str(graph.add("Concat", INPUT, wide, axis=1))


def _nodes(
    forests: Sequence[Forest], columns: _Columns, kind: str
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """All forests' nodes and where their leaves are, as attributes; and the leaves' values.

    ``kind`` is ``class`` or ``target``, which begins the names of what concerns leaves.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    offset = 0
    for forest in forests:
        parts.append(_part(forest, columns.of(forest), offset))
        offset += len(forest.roots)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    is_leaf, values = joined.pop("is_leaf"), joined.pop("leaf_values")
    attributes: dict[str, Any] = {name: array.tolist() for name, array in joined.items()}
    attributes["nodes_modes"] = np.where(is_leaf, b"LEAF", b"BRANCH_LT").tolist()
    for name in ("treeids", "nodeids"):
        attributes[f"{kind}_{name}"] = joined[f"nodes_{name}"][is_leaf].tolist()
    attributes[f"{kind}_ids"] = [0] * int(is_leaf.sum())
    return attributes, values[is_leaf]


def _part(forest: Forest, columns: NDArray[np.int64], first_tree: int) -> dict[str, NDArray[Any]]:
    """The attributes of one forest, whose trees are counted from ``first_tree``."""
    m = len(forest.left)
    tree = np.searchsorted(forest.roots, np.arange(m), side="right") - 1
    root, is_leaf, by_set = forest.roots[tree], forest.left < 0, forest.category_row >= 0
    threshold = np.where(by_set, np.float32(0.5), forest.threshold)
    return {
        "nodes_treeids": tree + first_tree,
        "nodes_nodeids": np.arange(m) - root,
        "nodes_featureids": np.where(is_leaf, 0, columns),
        "nodes_values": np.where(is_leaf, 0, threshold),
        "nodes_truenodeids": np.where(is_leaf, 0, forest.left - root),
        "nodes_falsenodeids": np.where(is_leaf, 0, forest.right - root),
        "nodes_missing_value_tracks_true": (forest.default_left & ~by_set & ~is_leaf).astype(int),
        "is_leaf": is_leaf,
        "leaf_values": forest.threshold,
    }


def _sets(forests: Sequence[Forest]) -> list[_Set]:
    """All sets that occur, the most frequent first."""
    often: dict[_Set, int] = {}
    for forest in forests:
        for node in _asking(forest):
            found = _set_of(forest, node)
            often[found] = often.get(found, 0) + 1
    return sorted(often, key=lambda each: (-often[each], each))


def _asking(forest: Forest) -> list[int]:
    """The nodes that ask for a set of codes."""
    found: list[int] = np.flatnonzero(forest.category_row >= 0).tolist()
    return found


def _set_of(forest: Forest, node: int) -> _Set:
    return int(forest.feature[node]), forest.goes_right[forest.category_row[node]].tobytes()
