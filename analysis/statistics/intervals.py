"""Intervals of a mean, a standard deviation, a rate, or any statistic of one cell."""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from analysis.statistics.common import DECIMALS, ENDS, LEVEL, FloatArray, constant
from analysis.statistics.estimates import mean, sd

# Runs below which a bootstrap interval is too short where runs fail, of the mean and of the sd.
LEAST_FOR_MEAN, LEAST_FOR_SD = 50, 20


class Interval(NamedTuple):
    """A 95 % interval.

    Attributes:
        low: Lower end, in the unit of the estimate; NaN where there is no interval.
        high: Upper end, likewise.
        method: How it was made, such as `t` or `BCa`; empty where there is no interval.
        reason: Why there is no interval, or why it has no width: `n_too_small`, `zero_variance`
            or `all_tied`; otherwise empty.
    """

    low: float
    high: float
    method: str
    reason: str


def no_interval(reason: str) -> Interval:
    """An interval that could not be made."""
    return Interval(np.nan, np.nan, "", reason)


def mean_interval(scores: FloatArray) -> Interval:
    """Student's t interval of the mean.

    Args:
        scores: Shape (n,), no NaN.

    Returns:
        No interval below two scores; no width, and `zero_variance`, if all are equal.

    Source: Student 1908; exact for normal data.
    """
    if scores.size < 2:
        return no_interval("n_too_small")
    error = sd(scores) / np.sqrt(scores.size)
    return student_interval(mean(scores), error, df=scores.size - 1, method="t")


def student_interval(estimate: float, error: float, *, df: float, method: str) -> Interval:
    """Interval of an estimate that is normal, by Student's t; symmetric.

    scipy's `stats.t.interval` gives the same ends, at a hundred times the cost.

    Args:
        estimate: Its centre.
        error: The estimate's standard error.
        df: Degrees of freedom of the standard error.
        method: What to call it.

    Returns:
        No width, and `zero_variance`, if the standard error is 0.

    Source: Student 1908.
    """
    half = float(special.stdtrit(df, (1 + LEVEL) / 2) * error)
    return Interval(estimate - half, estimate + half, method, "zero_variance" if half == 0 else "")


def sd_interval(scores: FloatArray) -> Interval:
    """Chi-square interval of the standard deviation; wrong where runs fail.

    Args:
        scores: Shape (n,), no NaN.

    Returns:
        No interval below two scores; no width, and `zero_variance`, if all are equal.

    Source: elementary; exact for normal data.
    """
    if scores.size < 2:
        return no_interval("n_too_small")
    df = scores.size - 1
    spread = sd(scores)
    high, low = special.chdtri(df, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])  # by their upper tails
    reason = "zero_variance" if spread == 0 else ""
    return Interval(
        float(spread * np.sqrt(df / low)), float(spread * np.sqrt(df / high)), "chi-square", reason
    )


def percentile_interval(replicates: FloatArray) -> Interval:
    """The middle 95 % of bootstrap replicates.

    Args:
        replicates: A statistic of each resample, shape (resamples,).

    Returns:
        No width, and `zero_variance`, if all are equal. Too short below some twenty scores.

    Source: Efron & Tibshirani 1993.
    """
    low, high = np.quantile(replicates, ENDS)
    reason = "zero_variance" if constant(replicates) else ""
    return Interval(float(low), float(high), "bootstrap", reason)


def bca_interval(estimate: float, replicates: FloatArray, without: FloatArray) -> Interval:
    """Bias-corrected and accelerated bootstrap interval.

    Args:
        estimate: The statistic of the scores.
        replicates: Of each resample, shape (resamples,).
        without: Of the scores with one left out in turn, shape (n,).

    Returns:
        No width where all replicates are equal (`zero_variance`) or too many scores are for the
        correction to exist (`all_tied`).

    Source: Efron 1987. Resamples that equal the estimate count half.
    """
    if constant(replicates):
        return Interval(estimate, estimate, "BCa", "zero_variance")
    above = np.round(estimate - replicates, DECIMALS)
    below = (np.count_nonzero(above > 0) + np.count_nonzero(above == 0) / 2) / replicates.size
    pull = np.round(without.mean() - without, DECIMALS)
    if below in (0, 1) or not pull.any():
        return Interval(estimate, estimate, "BCa", "all_tied")
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    bias = special.ndtri(below)
    moved = bias + special.ndtri(ENDS)
    levels = special.ndtr(bias + moved / (1 - acceleration * moved))
    low, high = np.quantile(replicates, levels)
    return Interval(float(low), float(high), "BCa", "")


def wilson_interval(count: int, n: int) -> Interval:
    """Interval of a rate, such as the share of failed runs.

    Args:
        count: How many of them.
        n: Out of how many; 0 gives [0, 1] and `n_too_small`.

    Raises:
        ValueError: If count is not in 0..n.

    Source: Wilson 1927.
    """
    return _rate_interval(count, n, "Wilson")


def clopper_pearson_interval(count: int, n: int) -> Interval:
    """Interval of a rate that holds it in at least 95 % of cases; wider than Wilson's.

    Args:
        count: How many of them.
        n: Out of how many; 0 gives [0, 1] and `n_too_small`.

    Raises:
        ValueError: If count is not in 0..n.

    Source: Clopper & Pearson 1934.
    """
    return _rate_interval(count, n, "Clopper-Pearson")


_SCIPY = {"Wilson": "wilson", "Clopper-Pearson": "exact"}  # scipy's names of the methods


@cache  # scipy computes a p-value first, 400 times the work, and few counts differ
def _rate_interval(count: int, n: int, method: str) -> Interval:
    if not 0 <= count <= n:
        raise ValueError(f"count = {count} is not in 0..n = {n}.")
    if n == 0:
        return Interval(0.0, 1.0, method, "n_too_small")
    found = stats.binomtest(count, n).proportion_ci(LEVEL, _SCIPY[method])
    return Interval(float(found.low), float(found.high), method, "")
