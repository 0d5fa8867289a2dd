"""The smallest ratio of standard deviations that a table of stability says would be found."""

import numpy as np

from analysis.statistics.common import ALPHA, POWER
from analysis.statistics.multiplicity import holm
from analysis.statistics.power import minimum_detectable_ratio
from analysis.statistics.spread import brown_forsythe
from rates.common import Rate

PROMISE = "smallest sd ratio that the test finds with 80% power: is found"

# Runs of each cell, other configurations, and the share for the ratio of one unadjusted F test.
CASES = {
    (15, 0): 0.597,
    (15, 4): 0.293,
    (20, 0): 0.673,
    (20, 1): 0.525,
    (20, 4): 0.353,
    (20, 11): 0.215,
    (50, 4): 0.454,
}
SIZES = {(15, 50): 0.736, (50, 15): 0.551}  # of the cell that varies more, and of the baseline


def rates(trials: int) -> list[Rate]:
    """How often a ratio is found, in the test with which the verdict is made."""
    found = []
    for (n, others), before in CASES.items():
        case = f"n = {n}, {others} other configurations"
        found.append(_rate(n, n, others, trials, case, before))
    for (n, base), before in SIZES.items():
        case = f"n = {n} and {base} of the baseline, 4 other configurations"
        found.append(_rate(n, base, 4, trials, case, before))
    return found


def _rate(n: int, base: int, others: int, trials: int, case: str, before: float | None) -> Rate:
    ratio = minimum_detectable_ratio(min(n, base), others + 1)
    rng = np.random.default_rng([n, base, others])
    count = 0
    for _ in range(trials):
        standard, wider = rng.normal(size=base), ratio * rng.normal(size=n)
        p = [brown_forsythe(wider, standard).p]
        p += [brown_forsythe(rng.normal(size=n), standard).p for _ in range(others)]
        count += int(holm(np.array(p))[0] < ALPHA)
    return Rate(PROMISE, case, count, trials, POWER, coverage=True, before=before)
