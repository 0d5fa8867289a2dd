"""How many seeds a question needs, and what so few can show."""

import math

import numpy as np
from scipy import optimize, stats

from analysis.statistics.common import ALPHA, POWER


def minimum_detectable_ratio(n: int) -> float:
    """Ratio of two standard deviations that an F test finds four times in five.

    Args:
        n: Runs in each of the two cells.

    Returns:
        Larger over smaller standard deviation, above 1; NaN below two runs.

    Source: elementary; power of the two-sided F test at 5 %, normal data.
    """
    if n < 2:
        return np.nan
    df = n - 1
    low, high = stats.f.ppf([ALPHA / 2, 1 - ALPHA / 2], df, df)

    def excess(ratio: float) -> float:
        found = stats.f.sf(high / ratio**2, df, df) + stats.f.cdf(low / ratio**2, df, df)
        return float(found) - POWER

    return float(optimize.brentq(excess, 1, 1e4))


def seeds_for_difference(
    difference: float, sd: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Seeds per cell that show a difference of two means.

    Args:
        difference: The smallest difference of means that must not be missed, in the metric's unit.
        sd: Standard deviation over seeds within a cell, the same for both.
        alpha: Two-sided level of the t test.
        power: Probability of seeing the difference where there is one.

    Returns:
        Runs per cell, at least 2.

    Raises:
        ValueError: If `difference` or `sd` is not positive.

    Source: Cohen 1988, two-sample t test by the noncentral t distribution.
    """
    if difference <= 0 or sd <= 0:
        raise ValueError("difference and sd must be positive")
    effect = difference / sd
    n = 2
    while _t_power(n, effect, alpha) < power:
        n = max(n + 1, math.floor(n * 1.05))
    while n > 2 and _t_power(n - 1, effect, alpha) >= power:
        n -= 1
    return n


def _t_power(n: int, effect: float, alpha: float) -> float:
    freedom, shift = 2 * n - 2, effect * math.sqrt(n / 2)
    bound = stats.t.ppf(1 - alpha / 2, freedom)
    return float(stats.nct.sf(bound, freedom, shift) + stats.nct.cdf(-bound, freedom, shift))
