"""The test of equal means where a run failed, for cells of unequal size and failure rate."""

import numpy as np

from analysis.statistics.common import ALPHA
from analysis.statistics.location import mean_difference
from analysis.statistics.summary import Scores
from rates.common import Rate

PROMISE = "p < 0.05 (permutation test where runs failed): equal means told apart"
BAR = 0.07  # 5%, and the slack that discrete counts of failures need
FLOOR, MEAN, SD = 0.5, 0.75, 0.01

# Sizes and failure rates of both cells, and the rate with relabelled differences of means.
CASES = {
    (3, 3, 0.0, 0.3): 0.0,
    (5, 5, 0.0, 0.3): 0.032,
    (5, 5, 0.1, 0.4): 0.085,
    (10, 10, 0.0, 0.3): 0.121,
    (10, 10, 0.1, 0.4): 0.085,
    (20, 20, 0.0, 0.3): 0.058,
    (20, 20, 0.3, 0.3): 0.054,
    (10, 3, 0.1, 0.4): 0.296,
    (20, 3, 0.1, 0.4): 0.393,
    (20, 3, 0.3, 0.3): 0.047,
    (20, 5, 0.0, 0.2): 0.236,
    (20, 5, 0.0, 0.5): 0.353,
    (20, 5, 0.1, 0.4): 0.183,
    (50, 10, 0.0, 0.1): 0.181,
    (50, 10, 0.0, 0.3): 0.27,
    (50, 10, 0.0, 0.5): 0.332,
    (40, 8, 0.0, 0.2): 0.174,
    (40, 8, 0.0, 0.5): 0.278,
}
UNSEEN = (20, 3, 0.0, 0.5)  # in one of eight trials the small cell has no successful run
UNSEEN_BEFORE = 0.131


def rates(trials: int) -> list[Rate]:
    """How often cells with equal means, some runs of which failed, are told apart."""
    found = [_rate(case, trials, BAR, before) for case, before in CASES.items()]
    return [*found, _rate(UNSEEN, trials, BAR + 0.5**3, UNSEEN_BEFORE)]


def _rate(
    case: tuple[int, int, float, float], trials: int, bar: float, before: float | None
) -> Rate:
    n_a, n_b, rate_a, rate_b = case
    rng = np.random.default_rng([n_a, n_b, round(100 * rate_a), round(100 * rate_b)])
    count = 0
    for _ in range(trials):
        gap, test = mean_difference(_cell(n_a, rate_a, rng), _cell(n_b, rate_b, rng))
        count += int(test == "permutation" and gap.p < ALPHA)
    name = f"n = {n_a} and {n_b}, {rate_a:.0%} and {rate_b:.0%} of the runs fail"
    if case == UNSEEN:
        name += "; 12.5% of the small cells have no successful run"
    return Rate(PROMISE, name, count, trials, bar, before=before)


def _cell(n: int, rate: float, rng: np.random.Generator) -> Scores:
    """Scores whose expectation is MEAN, whatever the failure rate."""
    failed = rng.random(n) < rate
    good = rng.normal((MEAN - rate * FLOOR) / (1 - rate), SD, n)
    return Scores(np.where(failed, FLOOR, good), np.zeros(n, bool), failed, FLOOR)
