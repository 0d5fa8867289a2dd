"""Power analysis: seeds needed to detect an effect, and the smallest detectable effect."""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from analysis.statistics.common import ALPHA, DECIMALS, POWER, FloatArray, stream

MOST = 100_000  # largest number of seeds, and largest ratio, that is searched


@cache
def minimum_detectable_ratio(n: int, comparisons: int = 1) -> float:
    """Smallest ratio of two standard deviations that is found significant with 80% power.

    The test is that of `stability`: Brown-Forsythe, Holm-adjusted over the comparisons with the
    baseline, the others of which show no difference.

    Args:
        n: Runs in each of the two cells.
        comparisons: Number of comparisons that the p-value is adjusted for.

    Returns:
        Larger over smaller standard deviation, above 1; NaN if no ratio is found so often, as with
        few runs, and below three runs, where there is no test.

    Source: Brown & Forsythe 1974; power by simulation of pairs of cells with normal scores, 4,000
        up to 500 runs and fewer above. The first step of Holm 1979 tests at 5% over the number of
        comparisons.
    """
    if n < 3:
        return np.nan
    pairs = min(4_000, max(400, 2_000_000 // n))
    drawn = _gaps(stream("minimum_detectable_ratio", str(n)).standard_normal((2, pairs, n)))
    alpha = ALPHA / comparisons

    def missing(ratio: float) -> float:
        return POWER - _brown_forsythe_power(drawn, ratio, alpha)

    if missing(MOST) > 0:
        return np.nan
    return float(optimize.bisect(missing, 1, MOST, rtol=1e-3))


def pooled_sd(sds: FloatArray) -> float:
    """The sd of runs of several cells: the root mean square of theirs, of shape (n_cells,).

    Cells without scatter are left out, since they say nothing about it. NaN without any other.

    Source: elementary; cells are taken to have equally many runs.
    """
    own = sds[np.isfinite(sds) & (sds > 0)]
    return float(np.sqrt(np.mean(own**2))) if own.size else float("nan")


def seeds_for_difference(
    difference: float, sd: float, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Seeds per cell to detect a difference of two means with a t test.

    Args:
        difference: Smallest difference of means to detect, in the metric's unit.
        sd: Standard deviation over seeds within a cell, the same for both.
        alpha: Two-sided level of the t test.
        power: Target probability of detecting the difference.

    Returns:
        Runs per cell, at least 2.

    Raises:
        ValueError: If `difference` or `sd` is not positive.

    Source: Cohen 1988, chapter 2, two-sample t test by the noncentral t distribution.
    """
    effect = _effect(difference, sd)
    return math.ceil(crossing(lambda n: t_power(n, effect, alpha=alpha), power))


def seeds_for_paired_difference(
    difference: float, sd: float, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Seeds to detect a difference of two means with a paired t test.

    Args:
        difference: Smallest difference of means to detect, in the metric's unit.
        sd: Standard deviation over seeds of the difference between the two cells.
        alpha: Two-sided level of the paired t test.
        power: Target probability of detecting the difference.

    Returns:
        Seeds, at least 2, each of which is run in both cells.

    Raises:
        ValueError: If `difference` or `sd` is not positive.

    Source: Cohen 1988, chapter 2, one-sample t test by the noncentral t distribution.
    """
    effect = _effect(difference, sd)
    return math.ceil(crossing(lambda n: paired_t_power(n, effect, alpha=alpha), power))


def seeds_for_ratio(ratio: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Seeds per cell to detect a ratio of standard deviations with an F test; normal scores.

    Args:
        ratio: Smallest ratio to detect; its reciprocal needs as many seeds.
        alpha: Two-sided level of the F test.
        power: Target probability of detecting the ratio.

    Returns:
        Runs per cell, at least 2.

    Raises:
        ValueError: If `ratio` is not positive, or is 1.

    Source: elementary.
    """
    ratio = _above_one(ratio)
    return math.ceil(crossing(lambda n: f_power(n, ratio, alpha=alpha), power))


def seeds_for_robust_ratio(
    ratio: float, *, rng: np.random.Generator, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Seeds per cell to detect a ratio of standard deviations with the Brown-Forsythe test.

    Args:
        ratio: Smallest ratio to detect; its reciprocal needs as many seeds.
        rng: Generator of 4,000 pairs of cells; its seed moves the result by about 3%.
        alpha: Level of the test.
        power: Target probability of detecting the ratio.

    Returns:
        Runs per cell, at least 3; more than by `seeds_for_ratio`, the price of robustness.

    Raises:
        ValueError: If `ratio` is not positive, or is 1.

    Source: Brown & Forsythe 1974; power by simulation of normal scores.
    """
    ratio = _above_one(ratio)
    low, high = 2, 2 * seeds_for_ratio(ratio, alpha=alpha, power=power) + 10
    drawn = rng.standard_normal((2, 4_000, high))
    while high - low > 1:
        middle = (low + high) // 2
        if _brown_forsythe_power(_gaps(drawn[:, :, :middle]), ratio, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def seeds_for_failures(
    rate: float, other: float, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Seeds per cell to detect a difference of failure rates with Fisher's exact test.

    Args:
        rate: Failure rate of one cell, in [0, 1].
        other: Failure rate of the other cell.
        alpha: Two-sided level of the test.
        power: Target probability of detecting the difference.

    Returns:
        Smallest number of runs per cell with that power. Power is not monotonic in it, since
        counts are discrete: a few more runs may have slightly less.

    Raises:
        ValueError: If a rate is not in [0, 1], the two are equal, or more than 500
            seeds are needed.

    Source: Fisher 1935; power by enumeration of all outcomes.
    """
    if not (0 <= rate <= 1 and 0 <= other <= 1) or rate == other:
        raise ValueError(f"rates {rate:g} and {other:g} must be in [0, 1] and differ.")
    spread = math.sqrt(rate * (1 - rate) + other * (1 - other))
    wanted = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    if (
        wanted * spread / (rate - other)
    ) ** 2 > 500:  # normal approximation; the exact test needs more
        raise ValueError(f"rates {rate:g} and {other:g} need more than 500 seeds to distinguish.")
    guess = 2
    while fisher_power(guess, rate, other, alpha=alpha) < power:
        guess = math.ceil(guess * 1.25)
    below = range(max(2, math.floor(guess / 1.25)), guess)
    return next((n for n in below if fisher_power(n, rate, other, alpha=alpha) >= power), guess)


def t_power(n: float, effect: float, *, alpha: float = ALPHA) -> float:
    """Power of the two-sided two-sample t test.

    Args:
        n: Runs in each cell, at least 2; need not be an integer.
        effect: Cohen's d: difference of means over the common standard deviation.
        alpha: Level of the test.

    Source: Cohen 1988, chapter 2.
    """
    return _noncentral(2 * n - 2, effect * math.sqrt(n / 2), alpha)


def paired_t_power(n: float, effect: float, *, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test.

    Args:
        n: Seeds, at least 2; need not be an integer.
        effect: Mean difference over the standard deviation of the differences.
        alpha: Level of the test.

    Source: Cohen 1988, chapter 2.
    """
    return _noncentral(n - 1, effect * math.sqrt(n), alpha)


def f_power(n: float, ratio: float, *, alpha: float = ALPHA) -> float:
    """Power of the two-sided F test of two variances; normal scores.

    Args:
        n: Runs in each cell, at least 2; need not be an integer.
        ratio: One standard deviation over the other.
        alpha: Level of the test.

    Source: elementary.
    """
    df = n - 1
    low, high = stats.f.ppf([alpha / 2, 1 - alpha / 2], df, df)
    return float(stats.f.sf(high / ratio**2, df, df) + stats.f.cdf(low / ratio**2, df, df))


def brown_forsythe_power(
    n: int, ratio: float, *, rng: np.random.Generator, alpha: float = ALPHA
) -> float:
    """Power of the Brown-Forsythe test of two cells with normal scores, by simulation.

    Args:
        n: Runs in each cell, at least 3.
        ratio: One standard deviation over the other.
        rng: Generator of 4,000 pairs of cells: the standard error is below 0.008.
        alpha: Level of the test.

    Source: Brown & Forsythe 1974.
    """
    return _brown_forsythe_power(_gaps(rng.standard_normal((2, 4_000, n))), ratio, alpha)


def fisher_power(n: int, rate: float, other: float, *, alpha: float = ALPHA) -> float:
    """Power of Fisher's exact test of two failure rates, by enumeration.

    Args:
        n: Runs in each cell.
        rate: Failure rate of one cell, in [0, 1].
        other: Failure rate of the other cell.
        alpha: Two-sided level of the test.

    Source: Fisher 1935.
    """
    counts = np.arange(n + 1)
    first, second = np.meshgrid(counts, counts, indexing="ij")
    chance = stats.hypergeom.pmf(first, 2 * n, first + second, n)  # given the total of failures
    significant = np.zeros((n + 1, n + 1), dtype=bool)
    for total in range(2 * n + 1):
        own = np.flatnonzero(np.diagonal(first[:, ::-1] + second[:, ::-1], n - total) == total)
        rows = own + max(0, total - n)
        given = chance[rows, total - rows]
        likely = np.where(given[:, None] >= given * (1 - 1e-7), given, 0.0)  # (outcome, as it)
        significant[rows, total - rows] = likely.sum(axis=1) < alpha
    return float(stats.binom.pmf(counts, n, rate) @ significant @ stats.binom.pmf(counts, n, other))


def crossing(power_at: Callable[[float], float], power: float) -> float:
    """Smallest real n, at least 2, at which an increasing power curve reaches `power`.

    Args:
        power_at: Power as a function of n.
        power: Target power.

    Raises:
        ValueError: If n = 100,000 does not reach it.
    """
    if power_at(2) >= power:
        return 2.0
    if power_at(MOST) < power:
        raise ValueError(f"the effect is too small: {MOST} seeds do not detect it.")
    high = 4.0
    while power_at(high) < power:
        high *= 2
    return float(optimize.brentq(lambda n: power_at(n) - power, high / 2, high))


def _effect(difference: float, sd: float) -> float:
    if difference <= 0 or sd <= 0:
        raise ValueError("difference and sd must be positive")
    return difference / sd


def _above_one(ratio: float) -> float:
    if ratio <= 0 or ratio == 1:
        raise ValueError("ratio must be positive and not 1")
    return max(ratio, 1 / ratio)


def _noncentral(freedom: float, shift: float, alpha: float) -> float:
    bound = stats.t.ppf(1 - alpha / 2, freedom)
    below = stats.nct.cdf(-bound, freedom, shift)  # NaN where it underflows
    return float(stats.nct.sf(bound, freedom, shift) + np.nan_to_num(below))


class _Gaps(NamedTuple):
    """Mean and variance of the deviations from the median of simulated cells; (2, n_pairs)."""

    means: FloatArray
    variances: FloatArray
    n: int


def _gaps(scores: FloatArray) -> _Gaps:
    found = np.abs(scores - np.median(scores, axis=-1, keepdims=True))  # (2, n_pairs, n)
    return _Gaps(found.mean(axis=-1), found.var(axis=-1, ddof=1), scores.shape[-1])


def _brown_forsythe_power(drawn: _Gaps, ratio: float, alpha: float) -> float:
    """Share of significant pairs, if the scores of the first cell are scaled by `ratio`."""
    between = drawn.n * (ratio * drawn.means[0] - drawn.means[1]) ** 2 / 2
    within = (ratio**2 * drawn.variances[0] + drawn.variances[1]) / 2
    statistic = between / np.maximum(within, 10.0**-DECIMALS)
    return float((statistic > stats.f.isf(alpha, 1, 2 * drawn.n - 2)).mean())
