"""ONNX graphs put together node by node, so that a row's bits do not depend on its batch.

What decides about that, with one thread: elementwise arithmetic is exact everywhere; products of
matrices add up row by row, but may take another way when there is one row only, so there are two
at least; functions such as the sigmoid are vectorised, and the end of a tensor may be computed
otherwise than its middle, so tensors are multiples of `LANES` long; sums over features are
products with a matrix of ones, or additions of halves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.onnx.scorer import INPUT, OUTPUT

LANES = 16
"""Most float32 that a vector instruction takes: 512 bits."""
OPSET, ML_OPSET, IR = 17, 3, 9
ML_DOMAIN = "ai.onnx.ml"
FLOAT, INT32, INT64 = 1, 6, 7
"""Of ``onnx.TensorProto``."""


class Graph:
    """Nodes and constants; names of what nodes give are made up as they are added.

    Parameters
    ----------
    p
        How many features the input has.

    Examples
    --------
    >>> graph = Graph(p=2)
    >>> negative = graph.add("Neg", INPUT)
    >>> graph.add("Add", INPUT, negative)
    'Add_1'
    """

    def __init__(self, p: int) -> None:
        self.p = p
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        array: NDArray[Any] = np.ascontiguousarray(values, dtype=dtype)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of what it gives, or a list of names where it gives more."""
        from onnx import helper

        number = len(self._nodes)
        names = [f"{operator}_{number}"]
        names += [f"{operator}_{number}_{place}" for place in range(1, outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def reshape(self, name: str, *shape: int) -> str:
        """Give a tensor another shape; -1 stands for what is left."""
        return str(self.add("Reshape", name, self.constant(shape, np.int64)))

    def first(self, name: str, n: int, axis: int = 1) -> str:
        """The first ``n`` along an axis."""
        limits = [self.constant([value], np.int64) for value in (0, n, axis)]
        return str(self.add("Slice", name, *limits))

    def wide(self, name: str) -> str:
        """Repeat a column ``(n, 1)`` to ``(n, LANES)``."""
        return str(self.add("Concat", *[name] * LANES, axis=1))

    def total(self, name: str, width: int) -> str:
        """Add up ``(n, width)`` to ``(n, 1)`` by halves; ``width`` is a power of two."""
        while width > 1:
            width //= 2
            left, right = self.add("Split", name, outputs=2, axis=1)
            name = self.add("Add", left, right)
        return name

    def answer(self, logit: str) -> bytes:
        """End the graph with the probabilities of 0 and 1 of a logit ``(n, LANES)``."""
        chances = [
            self.first(self.add("Sigmoid", sign), 1) for sign in (self.add("Neg", logit), logit)
        ]
        return self.finish(self.add("Concat", *chances, axis=1))

    def finish(self, probabilities: str) -> bytes:
        """End the graph with probabilities ``(n, 2)``; return it as bytes."""
        from onnx import helper

        for node in self._nodes:
            node.output[:] = [OUTPUT if name == probabilities else name for name in node.output]
        tensors = [
            helper.make_tensor_value_info(name, FLOAT, [None, width])
            for name, width in ((INPUT, self.p), (OUTPUT, 2))
        ]
        graph = helper.make_graph(self._nodes, "model", tensors[:1], tensors[1:], self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
        content: bytes = model.SerializeToString(deterministic=True)
        return content
