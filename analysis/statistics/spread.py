"""Tests of equal variances and of equal failure rates; ratios of standard deviations.

The Brown-Forsythe test is own code, since a report runs it for every pair of cells and scipy's
`levene` takes three times as long.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from analysis.statistics.common import DECIMALS, LEVEL, N_BOOT, FloatArray, Significance, constant
from analysis.statistics.estimates import mean, median, sd
from analysis.statistics.intervals import LEAST_FOR_SD, percentile_interval

# Seeds without which no claim about spread is made: with fewer, even a standard deviation twice
# another is missed in more than 20% of studies (one-sided F test at 5%, normal scores).
ENOUGH_FOR_SPREAD = 15


class Ratio(NamedTuple):
    """Ratio of the first standard deviation to the second.

    Attributes:
        estimate: The ratio, unitless; NaN if a side has zero variance or too few scores.
        low: Lower end of the 95% interval; NaN where `reason` says why.
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
    """Brown-Forsythe test of equal variances: ANOVA of absolute deviations from group medians.

    Args:
        groups: Two or more arrays of scores, each shape (n,), no NaN.

    Returns:
        F and its p-value; NaN if a group has fewer than three scores, where the deviations are
        equal by construction (`n_too_small`), if every variance is 0 (`zero_variance`), or if the
        deviations within each group are equal (`all_tied`).

    Source: Brown & Forsythe 1974.
    """
    return _distances(groups, [median(group) for group in groups])


def spread_test(a: FloatArray, b: FloatArray) -> Significance:
    """Brown-Forsythe test of two cells that both vary over seeds.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        As `brown_forsythe`, but NaN (`zero_variance`) also if all scores of one side are equal:
        seeds change nothing there, so that there is no spread to compare.

    Source: Brown & Forsythe 1974.
    """
    if min(a.size, b.size) and (constant(a) or constant(b)):
        return Significance(np.nan, np.nan, "zero_variance")
    return brown_forsythe(a, b)


def levene(*groups: FloatArray) -> Significance:
    """Levene test of equal variances: absolute deviations from group means; for symmetric data.

    Args:
        groups: Two or more arrays of scores, each shape (n,), no NaN.

    Returns:
        As `brown_forsythe`.

    Source: Levene 1960.
    """
    return _distances(groups, [mean(group) for group in groups])


def _distances(groups: Sequence[FloatArray], centres: Sequence[float]) -> Significance:
    reason = _too_little(groups)
    if reason:
        return Significance(np.nan, np.nan, reason)
    deviations = [np.abs(group - centre) for group, centre in zip(groups, centres, strict=True)]
    n, k = sum(group.size for group in deviations), len(deviations)
    grand = sum(group.sum() for group in deviations) / n
    between = sum(group.size * (group.mean() - grand) ** 2 for group in deviations) / (k - 1)
    within = sum(((group - group.mean()) ** 2).sum() for group in deviations) / (n - k)
    if round(within, 2 * DECIMALS) == 0:  # the deviations within each group are equal
        return Significance(np.nan, np.nan, "all_tied")
    f = float(between / within)
    return Significance(f, float(special.fdtrc(k - 1, n - k, f)), "")


def fligner_killeen(*groups: FloatArray) -> Significance:
    """Fligner-Killeen test of equal variances: ranks of absolute deviations from group medians.

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
    """F test of equal variances; for normal data only.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        First variance over second, and its two-sided p-value; NaN if a side has zero variance or
        fewer than two scores.

    Source: elementary; exact for normal data, invalid if runs fail.
    """
    ratio, reason = _ratio(a, b)
    if reason:
        return Significance(np.nan, np.nan, reason)
    df, f = (a.size - 1, b.size - 1), ratio**2
    return Significance(f, float(2 * min(special.fdtr(*df, f), special.fdtrc(*df, f))), "")


def pitman_morgan(a: FloatArray, b: FloatArray) -> Significance:
    """Pitman-Morgan test of equal variances of two cells with the same seeds.

    Args:
        a: Scores, shape (n,), no NaN.
        b: Scores of the same seeds in the same order, shape (n,), no NaN.

    Returns:
        Correlation of sums and differences, positive if the first variance is larger, and its
        p-value; NaN below three seeds, or if sums or differences are constant.

    Source: Pitman 1939; Morgan 1939; exact for normal data.
    """
    if a.size < 3:
        return Significance(np.nan, np.nan, "n_too_small")
    if constant(a + b) or constant(a - b):
        return Significance(np.nan, np.nan, "zero_variance")
    found = stats.pearsonr(a + b, a - b)
    return Significance(float(found.statistic), float(found.pvalue), "")


def sd_ratio(a: FloatArray, b: FloatArray) -> Ratio:
    """Ratio of standard deviations with an F interval; for cells without failures.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        NaN if a side has zero variance or fewer than two scores.

    Source: elementary; exact for normal data, invalid if runs fail.
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
        rng: Generator of the resamples, drawn separately for the two sides.

    Returns:
        No interval if a side has fewer than 20 scores, where its coverage would be too low.

    Source: Efron & Tibshirani 1993, chapter 13, percentile interval. A resample of zero variance
        gets the smallest positive standard deviation of the others.
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
    """Replace zero standard deviations of resamples by the smallest positive one.

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
    """Fisher's exact test of equal failure rates.

    Args:
        a: Numbers of failed and of finished runs of the first cell.
        b: Numbers of failed and of finished runs of the second cell.

    Returns:
        The odds ratio and the two-sided p-value; NaN if a cell has no runs.

    Source: Fisher 1935.
    """
    if min(a[1], b[1]) == 0:
        return Significance(np.nan, np.nan, "n_too_small")
    found = stats.fisher_exact([[failed, finished - failed] for failed, finished in (a, b)])
    return Significance(float(found.statistic), float(found.pvalue), "")
