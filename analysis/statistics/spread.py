"""Do two cells scatter equally, and fail equally often?"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics.common import (
    DECIMALS,
    LEVEL,
    N_BOOT,
    FloatArray,
    Significance,
    constant,
)
from analysis.statistics.estimates import sd


class Ratio(NamedTuple):
    """First standard deviation over second.

    Attributes:
        estimate: The ratio; NaN where a side has no scatter or too few scores.
        low: Lower end of the 95 % interval; NaN where `reason` says why.
        high: Upper end.
        method: `F` or `bootstrap`; empty where there is no interval.
        reason: `n_too_small` or `zero_variance`; otherwise empty.
    """

    estimate: float
    low: float
    high: float
    method: str
    reason: str


def brown_forsythe(*groups: FloatArray) -> Significance:
    """Do the groups scatter equally? Analysis of variance of the distances from group medians.

    Args:
        groups: Two or more arrays of scores, each shape (n,), no NaN.

    Returns:
        No p-value if a group has fewer than three scores, where the distances are equal by
        construction, or if no group scatters.

    Source: Brown & Forsythe 1974.
    """
    if min(group.size for group in groups) < 3:
        return Significance(np.nan, np.nan, "n_too_small")
    if all(constant(group) for group in groups):
        return Significance(np.nan, np.nan, "zero_variance")
    found = stats.levene(*groups, center="median")
    return Significance(float(found.statistic), float(found.pvalue), "")


def sd_ratio(a: FloatArray, b: FloatArray) -> Ratio:
    """Ratio of standard deviations with the interval of the F distribution; for clean cells.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Source: elementary; exact for normal data, wrong where runs fail.
    """
    estimate, reason = _ratio(a, b)
    if reason:
        return Ratio(estimate, np.nan, np.nan, "", reason)
    df = a.size - 1, b.size - 1
    low = estimate / np.sqrt(stats.f.ppf((1 + LEVEL) / 2, *df))
    high = estimate / np.sqrt(stats.f.ppf((1 - LEVEL) / 2, *df))
    return Ratio(estimate, float(low), float(high), "F", "")


def sd_ratio_bootstrap(a: FloatArray, b: FloatArray, *, rng: np.random.Generator) -> Ratio:
    """Ratio of standard deviations with a percentile bootstrap interval; for cells with failures.

    Args:
        a: Scores, shape (n_a,), no NaN; failed runs at their floor.
        b: Scores, shape (n_b,), likewise.
        rng: Draws the resamples, separately for the two sides.

    Returns:
        No interval if a side has fewer than 20 scores: it would miss the truth too often.

    Source: Efron & Tibshirani 1993, percentile interval. A resample without scatter counts as the
        smallest that has some.
    """
    estimate, reason = _ratio(a, b)
    if not reason and min(a.size, b.size) < 20:
        reason = "n_too_small"
    if reason:
        return Ratio(estimate, np.nan, np.nan, "", reason)
    spreads = []
    for side in (a, b):
        spread = side[rng.integers(side.size, size=(N_BOOT, side.size))].std(axis=1, ddof=1)
        spreads.append(np.maximum(spread, spread[spread > 10.0**-DECIMALS].min()))
    low, high = np.quantile(spreads[0] / spreads[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(estimate, float(low), float(high), "bootstrap", "")


def _ratio(a: FloatArray, b: FloatArray) -> tuple[float, str]:
    if min(a.size, b.size) < 2:
        return np.nan, "n_too_small"
    if constant(a) or constant(b):
        return np.nan, "zero_variance"
    return sd(a) / sd(b), ""


def fisher(a: tuple[int, int], b: tuple[int, int]) -> Significance:
    """Do runs fail equally often? Fisher's exact test.

    Args:
        a: Failed and finished runs of the first cell.
        b: Failed and finished runs of the second cell.

    Returns:
        The odds ratio and the p-value; none if a cell has no runs.

    Source: Fisher 1935.
    """
    if min(a[1], b[1]) == 0:
        return Significance(np.nan, np.nan, "n_too_small")
    found = stats.fisher_exact([[failed, finished - failed] for failed, finished in (a, b)])
    return Significance(float(found.statistic), float(found.pvalue), "")
