"""Almost stochastic order of equal techniques: how often one is called dominant."""

import numpy as np

from analysis.statistics.dominance import DOMINATES, almost_stochastic_order
from rates.common import Rate

SIZES = ((5, 5), (10, 10), (20, 20), (5, 20), (20, 5))
RESAMPLES = 300
FAILED = -10.0
BEFORE = {  # by sizes and failure rate: a bound below 0.5
    (5, 5, 0.0): 0.180,
    (10, 10, 0.0): 0.172,
    (20, 20, 0.0): 0.198,
    (5, 20, 0.0): 0.194,
    (20, 5, 0.0): 0.192,
    (5, 5, 0.1): 0.186,
    (10, 10, 0.1): 0.202,
    (20, 20, 0.1): 0.154,
    (5, 20, 0.1): 0.412,
    (20, 5, 0.1): 0.106,
}


def rates(trials: int) -> list[Rate]:
    """False alarms of the first technique, without failures and with 10% of the runs failing."""
    found = []
    for failing in (0.0, 0.1):
        for sizes in SIZES:
            rng, alarms = np.random.default_rng(len(found)), 0
            for _ in range(trials):
                sides = [scores(n, failing, rng) for n in sizes]
                failed = any(bool((side == FAILED).any()) for side in sides)
                order = almost_stochastic_order(
                    *sides, failed=failed, comparisons=1, resamples=RESAMPLES, rng=rng
                )
                alarms += order.bound < DOMINATES
            case = f"{sizes[0]} and {sizes[1]} seeds"
            case += f", {failing:.0%} failing" if failing else ""
            before = BEFORE[*sizes, failing]
            found.append(
                Rate("ASO: the first dominates", case, alarms, trials, bar=0.05, before=before)
            )
    return found


def scores(n: int, failing: float, rng: np.random.Generator) -> np.ndarray:
    """Scores with an sd of 1; a failed run is 10 below the mean."""
    return np.where(rng.random(n) < failing, FAILED, rng.normal(size=n))
