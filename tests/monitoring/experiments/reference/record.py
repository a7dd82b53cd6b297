"""Records what published implementations say, for `test_sequential.py` to compare ours with.

None of them can be installed beside our packages: confseq 0.0.11 has no wheels and does not
compile for Python 3.11, ssrm-test 0.1.5 and gbstats 0.8.0 need NumPy below 2. So they run in an
environment of their own, with the Python files of confseq's source distribution on the path:

    uv venv peers
    uv pip install --python peers 'numpy<2' scipy toolz pandas pydantic nbformat multiprocess
    uv pip install --python peers --no-deps ssrm-test==0.1.5 gbstats==0.8.0
    PYTHONPATH=confseq-0.0.11/src peers/bin/python record.py
"""

import json
from pathlib import Path

import numpy as np

ALPHA = 0.05
LOOKS = [1, 2, 10, 100, 999, 2_999]


def losses() -> dict[str, list[float]]:
    """Values in [0, 1]: smooth, and rare."""
    random = np.random.RandomState(7)  # its stream is frozen for good
    smooth = random.beta(2, 5, 3_000).round(6)
    return {"smooth": smooth.tolist(), "rare": (random.uniform(size=3_000) < 0.01).tolist()}


def bernstein(values: list[float]) -> dict[str, list[float]]:
    """Confseq, with the paper's mean of theorem 2 in the variance, and with its own."""
    from confseq.betting_strategies import lambda_predmix_eb
    from confseq.predmix import predmix_empbern_twosided_cs, predmix_lower_cs

    def lower(x: np.ndarray) -> np.ndarray:
        mean = (0.5 + np.cumsum(x)) / (np.arange(1, len(x) + 1) + 1)
        return predmix_lower_cs(
            x,
            v=np.square(x - np.append(0.5, mean[:-1])),
            lambdas_fn=lambda y: lambda_predmix_eb(y, truncation=0.75, alpha=ALPHA / 2),
            psi_fn=lambda bets: -np.log(1 - bets) - bets,
            alpha=ALPHA / 2,
        )

    x = np.array(values, dtype=float)
    own = predmix_empbern_twosided_cs(x, alpha=ALPHA, truncation=0.75)
    return {
        "lower": lower(x)[LOOKS].tolist(),
        "upper": (1 - lower(1 - x))[LOOKS].tolist(),
        "own_lower": own[0][LOOKS].tolist(),
        "own_upper": own[1][LOOKS].tolist(),
    }


def ratio() -> dict[str, object]:
    """ssrm-test: Bayes factors of counts against a share, looked at one day after the other."""
    from ssrm_test.ssrm_test import sequential_bayes_factors

    days = [[912, 98], [880, 101], [915, 88], [860, 130], [905, 140]]
    factors = sequential_bayes_factors(
        np.array(days), np.array([0.9, 0.1]), dirichlet_concentration=1_000
    )
    return {"days": days, "share": 0.1, "log_e": np.log(factors).tolist()}


def mixture() -> dict[str, object]:
    """GrowthBook: half the width of a difference of means, for its rho."""
    from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
    from gbstats.models.statistics import SampleMeanStatistic

    arms = []
    random = np.random.RandomState(8)
    for mean in (0.3, 0.35):
        x = random.normal(mean, 0.2, 400).round(6)
        arms.append((len(x), float(x.sum()), float(np.square(x).sum())))
    statistics = [SampleMeanStatistic(n=n, sum=s, sum_squares=q) for n, s, q in arms]
    config = SequentialConfig(
        alpha=ALPHA, difference_type="absolute", sequential_tuning_parameter=1_000
    )
    test = SequentialTwoSidedTTest(statistics[0], statistics[1], config)
    low, high = test.confidence_interval
    variance = sum(s.variance / s.n for s in statistics) * sum(s.n for s in statistics)
    return {"n": 800, "variance": variance, "planned": 1_000, "reach": (high - low) / 2}


if __name__ == "__main__":
    found = {
        "alpha": ALPHA,
        "looks": LOOKS,
        "losses": losses(),
        "bernstein": {name: bernstein(values) for name, values in losses().items()},
        "sample_ratio": ratio(),
        "asymptotic": mixture(),
    }
    Path(__file__).with_name("published.json").write_text(json.dumps(found))
