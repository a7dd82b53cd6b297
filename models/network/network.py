"""The network itself, in JAX: an ensemble of perceptrons that share their weights.

Every member has scales and offsets of its own around weights that all share, so that ``m`` members
cost little more memory than one, and learn and answer in one pass (BatchEnsemble, Wen et al. 2020;
for tables TabM, Gorishniy et al. 2024). Each member is trained by its own loss; the answer is the
mean of their probabilities.

JAX is imported where it is used: it takes a second, and serving does without.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from configs.training_config import NeuralNetworkConfig
from feature_store.definitions.schema import MISSING, UNSEEN
from models.network.encoding import Encoding, Floats

if TYPE_CHECKING:
    import jax

Weights: TypeAlias = "dict[str, jax.Array]"
Constants: TypeAlias = "dict[str, jax.Array]"

BLOCK = 512
"""Rows that are answered at once; a last block is filled up, so each has the same program."""


def keep_to_cpu() -> None:
    """Let JAX use the processor only: it looks for no accelerator and says nothing."""
    import jax

    set_option: Any = jax.config.update  # it comes without types
    set_option("jax_platforms", "cpu")


def initial_weights(encoding: Encoding, config: NeuralNetworkConfig, key: jax.Array) -> Weights:
    """Draw weights: shared ones small and uniform, the members' first scales -1 or 1."""
    import jax

    keys = iter(jax.random.split(key, 2 * config.layers + 3))

    def uniform(shape: tuple[int, ...], inputs: int) -> jax.Array:
        largest = 1 / float(np.sqrt(inputs))
        return jax.random.uniform(next(keys), shape, minval=-largest, maxval=largest)

    m, width = config.members, encoding.width(config.embedding_size)
    rows = int(encoding.table_sizes.sum())
    weights = {"table": jax.random.normal(next(keys), (rows, config.embedding_size)) / 2}
    for layer in range(config.layers):
        inputs = width if layer == 0 else config.width
        weights[f"shared_{layer}"] = uniform((inputs, config.width), inputs)
        weights[f"offset_{layer}"] = uniform((m, config.width), inputs)
        weights[f"scale_out_{layer}"] = jax.numpy.ones((m, config.width))
        if layer:
            weights[f"scale_in_{layer}"] = jax.numpy.ones((m, config.width))
    # Members differ by which half-spaces they see; scaling the many inputs would cost m times more.
    signs = jax.random.rademacher(next(keys), (m, config.width), dtype=np.float32)
    weights["scale_out_0"] = signs
    weights["head"] = uniform((m, config.width), config.width)
    weights["head_offset"] = jax.numpy.zeros(m)
    return weights


def member_logits(
    weights: Weights,
    constants: Constants,
    values: jax.Array,
    dropout: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Logit of each member, ``(n, m)``, for vectors ``(n, p)``; with a key, units drop out."""
    import jax
    import jax.numpy as jnp

    x = _encoded(weights, constants, values)[:, jnp.newaxis, :]
    for layer in range(sum(name.startswith("shared_") for name in weights)):
        if layer:
            x = x * weights[f"scale_in_{layer}"]
        n, m, inputs = x.shape
        product = (x.reshape(n * m, inputs) @ weights[f"shared_{layer}"]).reshape(n, m, -1)
        x = jax.nn.relu(product * weights[f"scale_out_{layer}"] + weights[f"offset_{layer}"])
        if key is not None and dropout:
            # The members drop the same units: a mask for each would be half of all the work.
            drop_key = jax.random.fold_in(key, layer)
            kept = jax.random.bernoulli(drop_key, 1 - dropout, (n, 1, x.shape[-1]))
            x = jnp.where(kept, x / (1 - dropout), 0)
    return (x * weights["head"]).sum(axis=-1) + weights["head_offset"]


def _encoded(weights: Weights, constants: Constants, values: jax.Array) -> jax.Array:
    """Vectors ``(n, p)`` as the network takes them, ``(n, width)``; see `Encoding`."""
    import jax.numpy as jnp

    starts, widths = constants["bin_starts"], constants["bin_widths"]
    numbers = values[:, constants["bin_numbers"]]
    bins = jnp.clip((jnp.where(jnp.isnan(numbers), starts, numbers) - starts) / widths, 0, 1)
    steps = (numbers >= starts).astype(jnp.float32)
    missing = jnp.isnan(values[:, constants["numbers"]]).astype(jnp.float32)
    codes = values[:, constants["categories"]]
    codes = jnp.where(codes >= 0, codes, MISSING)
    codes = jnp.where(codes < constants["table_sizes"], codes, UNSEEN).astype(jnp.int32)
    words = weights["table"][codes + constants["table_starts"]].reshape(len(values), -1)
    return jnp.concatenate([bins, steps, missing, words], axis=1)


def probabilities(weights: dict[str, NDArray[Any]], encoding: Encoding, values: Floats) -> Floats:
    """Probability of label 1, float32 ``(n,)``, for vectors ``(n, p)``."""
    n = len(values)
    filled = np.zeros((-n % BLOCK, values.shape[1]), dtype=np.float32)
    blocks = np.concatenate([values, filled]).reshape(-1, BLOCK, values.shape[1])
    answer, constants = _answer(), encoding.arrays()
    found = [np.asarray(answer(weights, constants, block)) for block in blocks]
    return np.concatenate([np.empty(0, np.float32), *found])[:n]


@lru_cache(maxsize=1)
def _answer() -> Any:
    import jax

    keep_to_cpu()

    def mean(weights: Weights, constants: Constants, values: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(member_logits(weights, constants, values)).mean(axis=1)

    return jax.jit(mean)
