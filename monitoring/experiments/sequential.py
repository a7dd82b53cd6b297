"""Statistics that hold at every look: confidence sequences and a sequential test of a ratio.

A confidence sequence is an interval after each observation such that, with probability
``1 - alpha``, *all* of them hold the mean. So one may look as often as one likes and stop at any
time. Pure functions of arrays; where it says ``(…, n)``, each row is a run of its own.

====================  ==========================================================================
`bernstein`           bounded values, never wrong too often, however few or rare: Waudby-Smith
                      and Ramdas, Estimating means of bounded random variables by betting (JRSS B
                      2024), theorem 2
`asymptotic`          any values, right once there are enough: Waudby-Smith, Arbour, Sinha,
                      Kennedy and Ramdas, Time-uniform central limit theory and asymptotic
                      confidence sequences (Annals of Statistics 2024), equation 12
`sample_ratio`        counts of two arms: Lindon and Malek, Anytime-valid inference for
                      multinomial count data (NeurIPS 2022), the Dirichlet–multinomial mixture
====================  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LARGEST_BET = 0.75
"""Where bets are cut off: the authors recommend 0.5 or 0.75, and 0.75 decides sooner here."""
NOISE = 1e-24
CONCENTRATION = 1_000.0
"""Weight of the prior of `sample_ratio`: it looks for shares that are some percent off."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """An interval after each observation; arrays ``(…, n)``.

    Parameters
    ----------
    mean
        What is estimated, after each observation.
    lower, upper
        The limits; all of them together hold with probability ``1 - alpha``.
    """

    mean: Numbers
    lower: Numbers
    upper: Numbers

    def scale(self, factor: float, shift: float = 0.0) -> Sequence:
        """The sequence of ``factor * value + shift``; the factor is above 0."""
        parts = (self.mean, self.lower, self.upper)
        return Sequence(*(factor * part + shift for part in parts))


def bernstein(values: Numbers, alpha: float, low: float = 0.0, high: float = 1.0) -> Sequence:
    """Bound the mean of values in [low, high] after each of them.

    Parameters
    ----------
    values
        ``(…, n)``, in the order in which they became known.
    alpha
        Of both limits together; each alone is wrong with probability ``alpha / 2`` at most.

    Raises
    ------
    ValueError
        If a value lies outside of its range.

    Examples
    --------
    >>> found = bernstein(np.tile([0.2, 0.4], 500), alpha=0.05)
    >>> [round(float(part[-1]), 3) for part in (found.lower, found.upper)]
    [0.287, 0.313]
    """
    x = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    if x.size and not 0 <= x.min() <= x.max() <= 1:
        raise ValueError(f"Values lie in [{values.min()}, {values.max()}], not [{low}, {high}].")
    t = np.arange(1, x.shape[-1] + 1, dtype=np.float64)
    mean = (0.5 + np.cumsum(x, axis=-1)) / (t + 1)
    variance = (0.25 + np.cumsum(np.square(x - mean), axis=-1)) / (t + 1)
    # What is bet on a value may know those before it only.
    mean_before, variance_before = _before(mean, 0.5), _before(variance, 0.25)
    needed = log(2 / alpha)
    bets = np.minimum(np.sqrt(2 * needed / (variance_before * t * np.log1p(t))), LARGEST_BET)
    spent = np.cumsum(np.square(x - mean_before) * (-np.log1p(-bets) - bets), axis=-1)
    total = np.cumsum(bets, axis=-1)
    centre = np.cumsum(bets * x, axis=-1) / total
    reach = (needed + spent) / total
    limits = np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1)
    return Sequence(centre, *limits).scale(high - low, low)


def asymptotic(values: Numbers, alpha: float, planned: float) -> Sequence:
    """Bound the mean of values of any size after each of them, once there are enough.

    Too few events make it too narrow: wait for `effective_events`.

    Parameters
    ----------
    values
        ``(…, n)``, in the order in which they became known.
    planned
        Number of values at which it is narrowest; it holds at all others too.

    Examples
    --------
    >>> found = asymptotic(np.tile([-1.0, 1.0], 500), alpha=0.05, planned=1_000)
    >>> round(float(found.upper[-1]), 4)
    0.096
    """
    x = np.asarray(values, dtype=np.float64)
    t = np.arange(1, x.shape[-1] + 1, dtype=np.float64)
    mean = np.cumsum(x, axis=-1) / t
    spread = np.sqrt(np.maximum(np.cumsum(np.square(x), axis=-1) / t - np.square(mean), 0))
    rho_squared = (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / planned
    scale = t * rho_squared + 1
    reach = spread * np.sqrt(2 * scale / (t * t * rho_squared) * np.log(np.sqrt(scale) / alpha))
    return Sequence(mean, mean - reach, mean + reach)


def split_effects(losses: Numbers, is_challenger: NDArray[np.bool_], share: Numbers) -> Numbers:
    """Give each unit an unbiased guess of the challenger's loss less the champion's, ``(…, n)``.

    The doubly robust score of a trial with known shares (Robins, Rotnitzky and Zhao, JASA 1994;
    AIPW), where each arm's loss is predicted by the mean of that arm's units before.

    Parameters
    ----------
    losses
        Of the arm that answered, ``(…, n)``.
    share
        Probability with which the unit got the challenger, between 0 and 1.
    """
    guesses = []
    for arm in (is_challenger, ~is_challenger):
        total = np.cumsum(np.where(arm, losses, 0.0), axis=-1)
        count = np.cumsum(arm, axis=-1)
        guesses.append(_before(total / np.maximum(count, 1), 0.0))
    challenger, champion = guesses
    return np.where(
        is_challenger,
        challenger - champion + (losses - challenger) / share,
        challenger - champion - (losses - champion) / (1 - share),
    )


def effective_events(losses: Numbers, mask: NDArray[np.bool_]) -> Numbers:
    """Count the events that the masked losses so far are worth, ``(…, n)``.

    For losses of 0 and 1 it is about the number of the rarer ones; for others it is smaller the
    more of their spread a few of them carry: ``(sum |d|)² / (4 sum d²)``, d from the mean.
    """
    count = np.maximum(np.cumsum(mask, axis=-1), 1)
    mean = np.cumsum(np.where(mask, losses, 0.0), axis=-1) / count
    distance = np.where(mask, np.abs(losses - mean), 0.0)
    squares = np.cumsum(np.square(distance), axis=-1)
    # Below that it is the noise of the arithmetic: all losses are the same.
    is_spread = squares > NOISE * count
    total = np.square(np.cumsum(distance, axis=-1))
    return np.where(is_spread, total / (4 * np.where(is_spread, squares, 1.0)), 0.0)


def sample_ratio(n_challenger: NDArray[np.int64], n: NDArray[np.int64], share: float) -> Numbers:
    """Weigh the counts against the share that the challenger was to get: log e-values.

    Under the right share the largest value ever reached exceeds ``log(1 / alpha)`` with
    probability ``alpha`` at most.

    Parameters
    ----------
    n_challenger, n
        Units of the challenger and of both arms after each look.
    share
        In (0, 1).

    Examples
    --------
    >>> fair, unfair = sample_ratio(np.array([1_000, 700]), np.array([10_000, 10_000]), 0.1)
    >>> bool(fair < 0), bool(unfair > np.log(100))
    (True, True)
    """
    n_champion, most = n - n_challenger, int(n.max(initial=0))
    mixture = (
        _log_rising(CONCENTRATION * share, most)[n_challenger]
        + _log_rising(CONCENTRATION * (1 - share), most)[n_champion]
        - _log_rising(CONCENTRATION, most)[n]
    )
    return np.asarray(mixture - n_challenger * log(share) - n_champion * log1p(-share))


def _log_rising(start: float, most: int) -> Numbers:
    """Logarithms of ``start (start + 1) … (start + k - 1)`` for k from 0 to most."""
    return np.concatenate(([0.0], np.cumsum(np.log(start + np.arange(most)))))


def _before(values: Numbers, first: float) -> Numbers:
    """Shift values ``(…, n)`` by one: what was known before each observation."""
    shifted = np.empty_like(values)
    shifted[..., :1] = first
    shifted[..., 1:] = values[..., :-1]
    return shifted
