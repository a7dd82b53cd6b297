"""Trees of several models as one node of an ONNX graph: their weighted sum of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.graphs import ML_DOMAIN, Graph
from models.scorer import INPUT

RENAMED = {"class_ids": "target_ids", "class_nodeids": "target_nodeids"}
RENAMED |= {"class_treeids": "target_treeids", "class_weights": "target_weights"}
DROPPED = {"base_values", "classlabels_int64s", "post_transform"}


def add_trees(graph: Graph, classifiers: Sequence[bytes], share: float) -> str:
    """Add the sum of ``share`` times the logit of each binary classifier, ``(n, 1)``.

    Parameters
    ----------
    classifiers
        Graphs of one ``TreeEnsembleClassifier`` each, as `trees_to_onnx` gives them.
    """
    merged: dict[str, Any] = {}
    offset, n_trees = 0.0, 0
    for classifier in classifiers:
        trees = _attributes(classifier)
        offset += share * sum(trees.get("base_values", [0.0]))
        for name, values in trees.items():
            if name not in DROPPED:
                merged.setdefault(RENAMED.get(name, name), []).extend(
                    [value + n_trees for value in values] if name.endswith("treeids") else values
                )
        n_trees += max(trees["nodes_treeids"]) + 1
    merged["target_weights"] = [share * weight for weight in merged["target_weights"]]
    return str(
        graph.add(
            "TreeEnsembleRegressor",
            INPUT,
            domain=ML_DOMAIN,
            n_targets=1,
            base_values=[offset],
            **merged,
        )
    )


def _attributes(classifier: bytes) -> dict[str, Any]:
    import onnx

    [node] = onnx.load_from_string(classifier).graph.node
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
