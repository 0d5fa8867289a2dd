"""Confidence intervals of a mean, a standard deviation, a proportion, or any statistic."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from analysis.statistics.common import DECIMALS, ENDS, LEVEL, FloatArray, constant
from analysis.statistics.estimates import mean, sd

# Smallest n for which a bootstrap interval of the mean, or sd, keeps its coverage if runs fail.
LEAST_FOR_MEAN, LEAST_FOR_SD = 50, 20


class Interval(NamedTuple):
    """A 95% confidence interval.

    Attributes:
        low: Lower end, in the unit of the estimate; NaN where there is no interval.
        high: Upper end, likewise.
        method: Name of the method, such as `t` or `BCa`; empty where there is no interval.
        reason: Why there is no interval, or why its width is zero: `n_too_small`,
            `zero_variance`, `all_tied` or `not_identified`; otherwise empty.
    """

    low: float
    high: float
    method: str
    reason: str


def no_interval(reason: str) -> Interval:
    """An undefined interval: NaN ends, and the reason code."""
    return Interval(np.nan, np.nan, "", reason)


def mean_interval(scores: FloatArray, level: float = LEVEL) -> Interval:
    """Student's t interval of the mean.

    Args:
        scores: Shape (n,), no NaN.
        level: Coverage.

    Returns:
        No interval below two scores; zero width, and `zero_variance`, if all scores are equal.

    Source: Student 1908; exact for normal data.
    """
    if scores.size < 2:
        return no_interval("n_too_small")
    error = sd(scores) / np.sqrt(scores.size)
    return student_interval(mean(scores), error, df=scores.size - 1, method="t", level=level)


def student_interval(
    estimate: float, error: float, *, df: float, method: str, level: float = LEVEL
) -> Interval:
    """Student's t interval of a normally distributed estimate.

    scipy's `stats.t.interval` returns the same ends, at a hundred times the cost.

    Args:
        estimate: Centre of the interval.
        error: Standard error of the estimate, in the same unit.
        df: Degrees of freedom of the standard error.
        method: Name for `Interval.method`.
        level: Coverage.

    Returns:
        Zero width, and `zero_variance`, if the standard error is 0.

    Source: Student 1908.
    """
    half = float(special.stdtrit(df, (1 + level) / 2) * error)
    return Interval(estimate - half, estimate + half, method, "zero_variance" if half == 0 else "")


def weighted_mean_interval(
    scores: Sequence[FloatArray], runs: Sequence[Sequence[str]], weights: Sequence[float]
) -> Interval:
    """Student's t interval of a weighted sum of task means, for new runs on the same tasks.

    Args:
        scores: Per task, each shape (n,), no NaN.
        runs: Per task the id of each score's run. A run scored on several tasks counts once, with
            the weighted sum of its deviations.
        weights: Weight of each task.

    Returns:
        No interval if a task has fewer than two scores.

    Source: Student 1908; Satterthwaite 1946 for the degrees of freedom of separate runs. With
        shared runs, the linearised sum over clusters (Binder 1983) with n - 1 degrees of freedom
        of the task with the fewest; exact for normal scores if every run is on every task.
    """
    if min((x.size for x in scores), default=0) < 2:
        return no_interval("n_too_small")
    n = np.array([x.size for x in scores])
    parts = [
        weight * (x - x.mean()) / np.sqrt(x.size * (x.size - 1))
        for x, weight in zip(scores, weights, strict=True)
    ]
    ids, run = np.unique(
        np.concatenate([np.asarray(own, str) for own in runs]), return_inverse=True
    )
    variance = float((np.bincount(run, np.concatenate(parts)) ** 2).sum())
    own = np.array([(part**2).sum() for part in parts])
    df = float(n.min() - 1)
    if ids.size == n.sum() and variance > 0:
        df = variance**2 / float((own**2 / (n - 1)).sum())
    estimate = float(sum(w * x.mean() for x, w in zip(scores, weights, strict=True)))
    return student_interval(estimate, np.sqrt(variance), df=df, method="t")


def sd_interval(scores: FloatArray, level: float = LEVEL) -> Interval:
    """Chi-square interval of the standard deviation; invalid if runs fail.

    Args:
        scores: Shape (n,), no NaN.
        level: Coverage.

    Returns:
        No interval below two scores; zero width, and `zero_variance`, if all scores are equal.

    Source: elementary; exact for normal data.
    """
    if scores.size < 2:
        return no_interval("n_too_small")
    df = scores.size - 1
    spread = sd(scores)
    high, low = special.chdtri(
        df, [(1 + level) / 2, (1 - level) / 2]
    )  # chdtri takes the upper tail
    reason = "zero_variance" if spread == 0 else ""
    return Interval(
        float(spread * np.sqrt(df / low)), float(spread * np.sqrt(df / high)), "chi-square", reason
    )


def percentile_interval(replicates: FloatArray) -> Interval:
    """Bootstrap percentile interval.

    Args:
        replicates: The statistic of each resample, shape (resamples,), no NaN.

    Returns:
        Zero width, and `zero_variance`, if all are equal. Too short below about twenty scores.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    low, high = np.quantile(replicates, ENDS)
    reason = "zero_variance" if constant(replicates) else ""
    return Interval(float(low), float(high), "bootstrap", reason)


def bca_interval(
    estimate: float, replicates: FloatArray, without: FloatArray, level: float = LEVEL
) -> Interval:
    """Bias-corrected and accelerated (BCa) bootstrap interval.

    Args:
        estimate: The statistic of the scores.
        replicates: The statistic of each resample, shape (resamples,), no NaN.
        without: Jackknife values, the statistic without each score in turn, shape (n,).
        level: Coverage.

    Returns:
        Zero width if all replicates are equal (`zero_variance`), or if so many scores are tied
        that the bias correction or the acceleration is undefined (`all_tied`).

    Source: Efron 1987; Efron & Tibshirani 1993, section 14.3. Replicates equal to the estimate
        count half in the bias correction.
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
    moved = bias + special.ndtri([(1 - level) / 2, (1 + level) / 2])
    levels = special.ndtr(bias + moved / (1 - acceleration * moved))
    low, high = np.quantile(replicates, levels)
    return Interval(float(low), float(high), "BCa", "")


def wilson_interval(count: int, n: int) -> Interval:
    """Wilson score interval of a proportion, such as the failure rate.

    Args:
        count: Number of successes.
        n: Number of trials; 0 gives [0, 1] and `n_too_small`.

    Raises:
        ValueError: If count is not in 0..n.

    Source: Wilson 1927.
    """
    return _rate_interval(count, n, "Wilson")


def clopper_pearson_interval(count: int, n: int) -> Interval:
    """Clopper-Pearson interval of a proportion: coverage of at least 95%, wider than Wilson's.

    Args:
        count: Number of successes.
        n: Number of trials; 0 gives [0, 1] and `n_too_small`.

    Raises:
        ValueError: If count is not in 0..n.

    Source: Clopper & Pearson 1934.
    """
    return _rate_interval(count, n, "Clopper-Pearson")


_SCIPY = {"Wilson": "wilson", "Clopper-Pearson": "exact"}  # scipy's names of the methods


@cache  # binomtest computes a p-value first, 400 times the work, and few counts are distinct
def _rate_interval(count: int, n: int, method: str) -> Interval:
    if not 0 <= count <= n:
        raise ValueError(f"count = {count} is not in 0..n = {n}.")
    if n == 0:
        return Interval(0.0, 1.0, method, "n_too_small")
    found = stats.binomtest(count, n).proportion_ci(LEVEL, _SCIPY[method])
    return Interval(float(found.low), float(found.high), method, "")
