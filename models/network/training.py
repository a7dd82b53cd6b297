"""Training of the network: AdamW, averaged weights, and an end when validation gets no better."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.training_config import NeuralNetworkConfig
from models.base import OnRound
from models.evaluation.metrics import log_loss
from models.network.encoding import Encoding
from models.network.network import (
    Constants,
    Weights,
    initial_weights,
    keep_to_cpu,
    member_logits,
    probabilities,
)
from models.rows.masking import WeightedRows
from models.rows.split import Part

if TYPE_CHECKING:
    import jax

FIRST_MOMENT, SECOND_MOMENT, TINY = 0.9, 0.999, 1e-8
"""Of AdamW, as its authors give them."""
LARGEST_GRADIENT = 1.0
"""Longer gradients are shortened to this norm."""
WARM_UP_STEPS = 200
"""The learning rate rises over so many steps: first moments of few steps point anywhere."""

Arrays = dict[str, NDArray[Any]]


def train_network(
    rows: WeightedRows,
    encoding: Encoding,
    config: NeuralNetworkConfig,
    seed: int,
    validation: Part | None = None,
    on_round: OnRound | None = None,
) -> tuple[Arrays, int]:
    """Train; return the averaged weights by name and after how many epochs they were best.

    With validation rows, training ends when their log loss has not fallen for
    ``config.patience`` epochs, and the best weights are given; without, after ``config.epochs``.
    """
    import jax

    keep_to_cpu()
    key = jax.random.key(seed)
    weights = initial_weights(encoding, config, key)
    nothing = jax.tree.map(jax.numpy.zeros_like, weights)
    state = (weights, nothing, nothing, weights, jax.numpy.float32(0))
    run_epoch = jax.jit(_epoch(jax.device_put(encoding.arrays()), config))
    labels = rows.labels.astype(np.float32)
    data = jax.device_put((rows.features.values, labels, rows.weights))
    best: tuple[float, int, Arrays] = (np.inf, 0, {})
    for epoch in range(1, config.epochs + 1):
        state = run_epoch(state, *data, jax.random.fold_in(key, epoch))
        averaged = {name: np.asarray(array) for name, array in state[3].items()}
        if on_round:
            on_round(1)
        loss = -epoch if validation is None else _loss(averaged, encoding, validation)
        if loss < best[0]:
            best = (loss, epoch, averaged)
        if epoch - best[1] >= config.patience:
            break
    return best[2], best[1]


def _loss(weights: Arrays, encoding: Encoding, judged: Part) -> float:
    return log_loss(judged.labels, probabilities(weights, encoding, judged.features.values))


def _epoch(constants: Constants, config: NeuralNetworkConfig) -> Callable[..., Any]:
    """Make the function that goes through all rows once, in an order drawn by its key."""
    import jax
    import jax.numpy as jnp

    def loss(
        weights: Weights, values: jax.Array, labels: jax.Array, shares: jax.Array, key: jax.Array
    ) -> jax.Array:
        logits = member_logits(weights, constants, values, config.dropout, key)
        losses = jax.nn.softplus(logits) - labels[:, jnp.newaxis] * logits
        return (losses.mean(axis=1) * shares).sum() / shares.sum()

    def epoch(
        state: Any, values: jax.Array, labels: jax.Array, shares: jax.Array, key: jax.Array
    ) -> Any:
        n, size = len(values), min(config.batch_size, len(values))
        order = jax.random.permutation(key, n)[: n // size * size].reshape(-1, size)

        def step(state: Any, batch: Any) -> Any:
            places, drop = batch
            few = values[places], labels[places], shares[places]
            return _adamw(state, jax.grad(loss)(state[0], *few, drop), config), None

        return jax.lax.scan(step, state, (order, jax.random.split(key, len(order))))[0]

    return epoch


def _adamw(state: Any, gradient: Weights, config: NeuralNetworkConfig) -> Any:
    """One step of AdamW (Loshchilov and Hutter 2019), and of the average that answers."""
    import jax
    import jax.numpy as jnp

    weights, first, second, averaged, t = state
    t = t + 1
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)))
    shorter = jnp.minimum(1, LARGEST_GRADIENT / (norm + TINY))
    rate = config.learning_rate * jnp.minimum(1, t / WARM_UP_STEPS)
    decay = jnp.minimum(config.average_decay, (1 + t) / (10 + t))

    def blend(share: Any, old: Any, new: Any) -> Any:
        return jax.tree.map(lambda o, n: share * o + (1 - share) * n, old, new)

    def moved(w: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        m, v = m / (1 - FIRST_MOMENT**t), v / (1 - SECOND_MOMENT**t)
        return w - rate * (m / (jnp.sqrt(v) + TINY) + config.weight_decay * w)

    gradient = jax.tree.map(lambda g: g * shorter, gradient)
    first = blend(FIRST_MOMENT, first, gradient)
    second = blend(SECOND_MOMENT, second, jax.tree.map(jnp.square, gradient))
    weights = jax.tree.map(moved, weights, first, second)
    return weights, first, second, blend(decay, averaged, weights), t
