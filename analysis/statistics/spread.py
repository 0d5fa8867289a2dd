"""Do two cells scatter equally, and fail equally often?

Brown and Forsythe's test is own code: a report makes it for every pair of cells, and scipy's
`levene` takes three times as long.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from analysis.statistics.common import DECIMALS, LEVEL, N_BOOT, FloatArray, Significance, constant
from analysis.statistics.estimates import mean, median, sd
from analysis.statistics.intervals import LEAST_FOR_SD, percentile_interval


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
        construction, if no group scatters, or if within each group all distances are equal
        (`all_tied`).

    Source: Brown & Forsythe 1974.
    """
    return _distances(groups, [median(group) for group in groups])


def levene(*groups: FloatArray) -> Significance:
    """As `brown_forsythe`, by distances from group means; for symmetric data.

    Source: Levene 1960.
    """
    return _distances(groups, [mean(group) for group in groups])


def _distances(groups: Sequence[FloatArray], centres: Sequence[float]) -> Significance:
    reason = _too_little(groups)
    if reason:
        return Significance(np.nan, np.nan, reason)
    far = [np.abs(group - centre) for group, centre in zip(groups, centres, strict=True)]
    n, k = sum(each.size for each in far), len(far)
    grand = sum(each.sum() for each in far) / n
    between = sum(each.size * (each.mean() - grand) ** 2 for each in far) / (k - 1)
    within = sum(((each - each.mean()) ** 2).sum() for each in far) / (n - k)
    if round(within, 2 * DECIMALS) == 0:  # all distances of a group are equal
        return Significance(np.nan, np.nan, "all_tied")
    f = float(between / within)
    return Significance(f, float(special.fdtrc(k - 1, n - k, f)), "")


def fligner_killeen(*groups: FloatArray) -> Significance:
    """Do the groups scatter equally? By ranks of the distances from group medians.

    Args:
        groups: Two or more arrays of scores, each shape (n,), no NaN.

    Returns:
        As `brown_forsythe`.

    Source: Fligner & Killeen 1976, as modified by Conover et al. 1981.
    """
    reason = _too_little(groups)
    if reason:
        return Significance(np.nan, np.nan, reason)
    found = stats.fligner(*groups)
    reason = "all_tied" if np.isnan(found.pvalue) else ""
    return Significance(float(found.statistic), float(found.pvalue), reason)


def f_test(a: FloatArray, b: FloatArray) -> Significance:
    """Ratio of variances, for normal data only.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        First variance over second; none where a side has no scatter or fewer than two scores.

    Source: elementary; exact for normal data, wrong where runs fail.
    """
    ratio, reason = _ratio(a, b)
    if reason:
        return Significance(np.nan, np.nan, reason)
    df, f = (a.size - 1, b.size - 1), ratio**2
    return Significance(f, float(2 * min(special.fdtr(*df, f), special.fdtrc(*df, f))), "")


def pitman_morgan(a: FloatArray, b: FloatArray) -> Significance:
    """Do two cells with the same seeds scatter equally?

    Args:
        a: Scores, shape (n,), no NaN.
        b: Scores of the same seeds in the same order, shape (n,), no NaN.

    Returns:
        Correlation of sums and differences, positive if the first scatters more; none below three
        seeds, or where sums or differences do not vary.

    Source: Pitman 1939; Morgan 1939; exact for normal data.
    """
    if a.size < 3:
        return Significance(np.nan, np.nan, "n_too_small")
    if constant(a + b) or constant(a - b):
        return Significance(np.nan, np.nan, "zero_variance")
    found = stats.pearsonr(a + b, a - b)
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
    low = estimate / np.sqrt(special.fdtri(*df, (1 + LEVEL) / 2))
    high = estimate / np.sqrt(special.fdtri(*df, (1 - LEVEL) / 2))
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
    if not reason and min(a.size, b.size) < LEAST_FOR_SD:
        reason = "n_too_small"
    if reason:
        return Ratio(estimate, np.nan, np.nan, "", reason)
    first, second = (
        some_scatter(side[rng.integers(side.size, size=(side.size, N_BOOT))].std(axis=0, ddof=1))
        for side in (a, b)
    )
    found = percentile_interval(first / second)
    return Ratio(estimate, found.low, found.high, "bootstrap", "")


def some_scatter(spreads: FloatArray) -> FloatArray:
    """Standard deviations of resamples, where none counts as the smallest that is some.

    Args:
        spreads: Shape (resamples,), not all 0.
    """
    return spreads.clip(min=spreads[spreads > 10.0**-DECIMALS].min())


def _too_little(groups: Sequence[FloatArray]) -> str:
    if min(group.size for group in groups) < 3:
        return "n_too_small"
    return "zero_variance" if all(constant(group) for group in groups) else ""


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
