"""The network as nodes of an ONNX graph; `models.onnx.graph` says what keeps a row's bits equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import MISSING, UNSEEN
from models.network.encoding import Encoding
from models.onnx.graph import FLOAT, INT64, LANES, Graph
from models.onnx.scorer import INPUT

Weights = Mapping[str, NDArray[Any]]


def add_network(graph: Graph, weights: Weights, encoding: Encoding) -> tuple[str, str]:
    """Add the nodes; return the mean probabilities of 0 and of 1, each ``(n, 1)``."""
    m, width = weights["head"].shape
    layers = sum(name.startswith("shared_") for name in weights)
    hidden = _first_layer(graph, _encoded(graph, weights, encoding), weights)
    for layer in range(1, layers):
        scaled = graph.add("Mul", hidden, graph.constant(weights[f"scale_in_{layer}"]))
        shared = graph.constant(weights[f"shared_{layer}"])
        product = graph.add("MatMul", graph.reshape(scaled, -1, width), shared)
        hidden = _activated(graph, graph.reshape(product, -1, m, width), weights, layer)
    scaled = graph.add("Mul", hidden, graph.constant(weights["head"]))
    ones = graph.constant(np.ones((width, LANES)))
    summed = graph.add("MatMul", graph.reshape(scaled, -1, width), ones)
    logits = graph.reshape(graph.first(summed, 1), -1, m)
    logits = graph.add("Add", logits, graph.constant(weights["head_offset"]))
    share = graph.constant(1 / m)
    zero, one = (
        graph.add("Mul", graph.total(graph.add("Sigmoid", sign), m), share)
        for sign in (graph.add("Neg", logits), logits)
    )
    return zero, one


def add_network_logit(
    graph: Graph, networks: Sequence[tuple[Weights, Encoding]], share: float
) -> str:
    """Add ``share`` times the sum of the networks' logits, ``(n, LANES)``."""
    total = graph.constant(0)
    for weights, encoding in networks:
        zero, one = (
            graph.add("Log", graph.wide(chance)) for chance in add_network(graph, weights, encoding)
        )
        total = graph.add("Add", total, graph.add("Sub", one, zero))
    return str(graph.add("Mul", total, graph.constant(share)))


def _first_layer(graph: Graph, encoded: str, weights: Weights) -> str:
    """Multiply each row twice, so that there are never less than two rows."""
    inputs, width = weights["shared_0"].shape
    twice = graph.reshape(graph.add("Concat", encoded, encoded, axis=1), -1, inputs)
    product = graph.add("MatMul", twice, graph.constant(weights["shared_0"]))
    once = graph.first(graph.reshape(product, -1, 2, width), 1)
    return _activated(graph, once, weights, 0)


def _activated(graph: Graph, product: str, weights: Weights, layer: int) -> str:
    scaled = graph.add("Mul", product, graph.constant(weights[f"scale_out_{layer}"]))
    moved = graph.add("Add", scaled, graph.constant(weights[f"offset_{layer}"]))
    return str(graph.add("Relu", moved))


def _encoded(graph: Graph, weights: Weights, encoding: Encoding) -> str:
    parts = []
    if len(encoding.numbers):
        parts += [_bins(graph, encoding), _missing(graph, encoding)]
    if len(encoding.categories):
        parts.append(_words(graph, weights["table"], encoding))
    return str(graph.add("Concat", *parts, axis=1))


def _bins(graph: Graph, encoding: Encoding) -> str:
    numbers = graph.add("Gather", INPUT, graph.constant(encoding.bin_numbers, np.int64), axis=1)
    starts = graph.constant(encoding.bin_starts)
    known = graph.add("Where", graph.add("IsNaN", numbers), starts, numbers)
    ratio = graph.add("Div", graph.add("Sub", known, starts), graph.constant(encoding.bin_widths))
    bins = graph.add("Clip", ratio, graph.constant(0), graph.constant(1))
    steps = graph.add("GreaterOrEqual", numbers, starts)
    return str(graph.add("Concat", bins, graph.add("Cast", steps, to=FLOAT), axis=1))


def _missing(graph: Graph, encoding: Encoding) -> str:
    numbers = graph.add("Gather", INPUT, graph.constant(encoding.numbers, np.int64), axis=1)
    return str(graph.add("Cast", graph.add("IsNaN", numbers), to=FLOAT))


def _words(graph: Graph, table: NDArray[Any], encoding: Encoding) -> str:
    codes = graph.add("Gather", INPUT, graph.constant(encoding.categories, np.int64), axis=1)
    there = graph.add("GreaterOrEqual", codes, graph.constant(0))
    codes = graph.add("Where", there, codes, graph.constant(MISSING))
    known = graph.add("Less", codes, graph.constant(encoding.table_sizes))
    codes = graph.add("Where", known, codes, graph.constant(UNSEEN))
    codes = graph.add("Cast", codes, to=INT64)
    places = graph.add("Add", codes, graph.constant(encoding.table_starts, np.int64))
    words = graph.add("Gather", graph.constant(table), places, axis=0)
    return graph.reshape(words, -1, len(encoding.categories) * table.shape[1])
