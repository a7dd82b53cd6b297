"""How many labels an A/B test needs, and how often it is wrong: simulated, looked at after each.

Losses are like those of the worked use case: true probabilities are Beta(0.35, 1.1), the better
model knows them but for a little noise, the worse one is further off, by so much that its Brier
score is worse by the given difference. Counts are labels of all traffic until 80 % of the tests
are decided, and 100,000 stands for more; `equal_models_decided` is the type-I error after 30,000.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.report import Report, is_quick
from models.deployment.plan import ExperimentPlan
from monitoring.experiments.evidence import PLANNED_UNITS
from monitoring.experiments.sequential import (
    Sequence,
    asymptotic,
    bernstein,
    effective_events,
    split_effects,
)

Numbers = NDArray[np.float64]
PLAN = ExperimentPlan()
DIFFERENCES = (0.02, 0.01, 0.005, 0.0025)
POWER = 80
RUNS, CHUNK, MOST = (40, 10, 20_000) if is_quick() else (200, 10, 100_000)
EQUAL_RUNS, EQUAL_MOST = (100, 5_000) if is_quick() else (1_000, 30_000)
NOISE = 0.1
NEVER = float("inf")


def logistic(x: Numbers) -> Numbers:
    """The inverse of the logit."""
    return np.asarray(1 / (1 + np.exp(-x)))


def losses(random: np.random.Generator, shape: tuple[int, int], off: float) -> Numbers:
    """Brier losses ``(2, …)`` of a model that is ``off`` on the logit, and of the better one."""
    truth = np.clip(random.beta(0.35, 1.1, shape), 1e-6, 1 - 1e-6)
    label = random.random(shape) < truth
    logit = np.log(truth / (1 - truth))
    errors = random.normal(size=(2, *shape)) * np.array([off, NOISE])[:, None, None]
    return np.asarray(np.square(logistic(logit + errors) - label))


def off_for(difference: float) -> float:
    """How far off a model must be for its Brier score to be worse by the difference."""
    low, high = NOISE, 5.0
    for _ in range(30):
        middle = (low + high) / 2
        worse, better = losses(np.random.default_rng(1), (20, 20_000), middle)
        low, high = (low, middle) if (worse - better).mean() > difference else (middle, high)
    return high


def paired(lost: Numbers, _: np.random.Generator) -> NDArray[np.bool_]:
    """Whether it is decided, after each label: both models score every request."""
    return found(bernstein(lost[1] - lost[0], PLAN.alpha, -1, 1))


def split(share: float, lost: Numbers, random: np.random.Generator) -> NDArray[np.bool_]:
    """The same by traffic: the better one is the challenger and gets a share."""
    arm = random.random(lost.shape[1:]) < share
    own = np.where(arm, lost[1], lost[0])
    effects = split_effects(own, arm, np.full(arm.shape, share))
    events = np.minimum(effective_events(own, arm), effective_events(own, ~arm))
    return found(asymptotic(effects, PLAN.alpha, PLANNED_UNITS)) & (events >= PLAN.minimum_events)


def found(sequence: Sequence) -> NDArray[np.bool_]:
    """Whether the limits leave 0 out."""
    return (sequence.upper < 0) | (sequence.lower > 0)


DESIGNS: dict[str, Callable[[Numbers, np.random.Generator], NDArray[np.bool_]]] = {
    "paired": paired,
    "split_10": lambda lost, random: split(0.10, lost, random),
    "split_50": lambda lost, random: split(0.50, lost, random),
}


def labels_needed(design: str, off: float, runs: int = RUNS, most: int = MOST) -> list[float]:
    """Labels until each simulated test was decided; infinity for those that were not."""
    random, needed = np.random.default_rng(2), []
    for _ in range(runs // CHUNK):
        decided = DESIGNS[design](losses(random, (CHUNK, most), off), random)
        first = np.where(decided.any(axis=1), decided.argmax(axis=1) + 1.0, NEVER)
        needed += first.tolist()
    return needed


def main() -> int:
    """Simulate all designs and differences."""
    report = Report("experiment_power", packages=["numpy"])
    for difference in DIFFERENCES:
        off = off_for(difference)
        runs = {
            design: [float(np.percentile(labels_needed(design, off), POWER, method="higher"))]
            for design in DESIGNS
        }
        runs = {design: [min(values[0], float(MOST))] for design, values in runs.items()}
        report.add(f"labels_for_brier_{difference:g}", "labels", runs)
        report.ratio("split_10", "paired", f"labels_for_brier_{difference:g}")
    wrong = {
        design: [float(np.isfinite(labels_needed(design, NOISE, EQUAL_RUNS, EQUAL_MOST)).mean())]
        for design in DESIGNS
    }
    report.add("equal_models_decided", "share", wrong)
    for design in DESIGNS:
        report.target(f"{design}_equal_models_decided", "<=", PLAN.alpha)
    report.target("split_10_over_paired_labels_for_brier_0.01", ">=", 10.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
