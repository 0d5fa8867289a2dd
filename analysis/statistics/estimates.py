"""Point estimates of one cell: where its scores lie and how far they scatter.

Mean, median, interquartile mean and best of k are weighted sums of the sorted scores. Their weights
stand here once; the bootstrap and the jackknife use the same ones.
"""

from collections.abc import Callable

import numpy as np

from analysis.statistics.common import FloatArray, constant

Weights = Callable[[int], FloatArray]  # of n sorted scores, shape (n,)


def mean_weights(n: int) -> FloatArray:
    """Weights that make the mean of n sorted scores, shape (n,)."""
    return np.full(n, 1 / n)


def median_weights(n: int) -> FloatArray:
    """Weights that make the median of n sorted scores, shape (n,)."""
    weights = np.zeros(n)
    weights[(n - 1) // 2] += 0.5
    weights[n // 2] += 0.5
    return weights


def iqm_weights(n: int) -> FloatArray:
    """Weights that make the mean of the middle half of n sorted scores, shape (n,)."""
    cut = n // 4
    weights = np.zeros(n)
    weights[cut : n - cut] = 1 / (n - 2 * cut)
    return weights


def best_weights(n: int, k: int) -> FloatArray:
    """Weights that make the unbiased expected largest of k, from n sorted scores, shape (n,).

    Args:
        n: Scores, at least k.
        k: Runs one would do, at least 1.

    Source: Tang et al. 2020: the chance that each score is the largest of a subset of k.
    """
    i = np.arange(n, 1, -1)
    factors = np.maximum(i - k, 0) / (i - 1)
    return np.concatenate([[k / n], factors]).cumprod()[::-1]


def mean(scores: FloatArray) -> float:
    """Mean; NaN of no scores. Shape (n,), no NaN.

    Source: elementary.
    """
    return float(scores.mean()) if scores.size else np.nan


def median(scores: FloatArray) -> float:
    """Median; NaN of no scores. Shape (n,), no NaN.

    Source: elementary.
    """
    return float(np.median(scores)) if scores.size else np.nan


def iqm(scores: FloatArray) -> float:
    """Mean of the middle half: floor(n / 4) scores are cut at each end; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.

    Source: Agarwal et al. 2021, interquartile mean; here within one cell.
    """
    return float(iqm_weights(scores.size) @ np.sort(scores)) if scores.size else np.nan


def quantiles(scores: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Quantiles, linear between the order statistics; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.
        levels: In [0, 1], shape (k,).

    Returns:
        Shape (k,).

    Source: Hyndman & Fan 1996, definition 7.
    """
    return np.quantile(scores, levels) if scores.size else np.full(len(levels), np.nan)


def iqr(scores: FloatArray) -> float:
    """Upper minus lower quartile; 0 of one score, NaN of none. Shape (n,), no NaN.

    Source: elementary; quartiles as `quantiles` has them.
    """
    low, high = quantiles(scores, (0.25, 0.75))
    return float(high - low)


def mad(scores: FloatArray) -> float:
    """Median distance from the median; 0 of one score, NaN of none.

    Times 1.4826 it estimates the standard deviation of normal scores.

    Args:
        scores: Shape (n,), no NaN.

    Source: Hampel 1974.
    """
    return median(np.abs(scores - median(scores)))


def sd(scores: FloatArray) -> float:
    """Sample standard deviation, divisor n - 1; NaN below two scores, exactly 0 if all are equal.

    Args:
        scores: Shape (n,), no NaN.

    Source: elementary. Differs: Du & Nguyen 2023 divide by n.
    """
    if scores.size < 2:
        return np.nan
    return 0.0 if constant(scores) else float(scores.std(ddof=1))


def cv(scores: FloatArray) -> float:
    """Coefficient of variation: standard deviation over the size of the mean.

    Args:
        scores: Shape (n,), no NaN.

    Returns:
        NaN below two scores, and where scores reach or cross 0: the mean is no unit there.

    Source: elementary, divisor n - 1.
    """
    if scores.size < 2 or scores.min() <= 0 <= scores.max():
        return np.nan
    return sd(scores) / abs(mean(scores))


def expected_best(scores: FloatArray, k: int) -> float:
    """Expected largest of k runs drawn without replacement: unbiased for the best of k new runs.

    Args:
        scores: Higher is better, shape (n,), no NaN; failed runs at their floor.
        k: How many runs one would do.

    Returns:
        NaN if k > n / 2, where it would rest on a few largest scores.

    Raises:
        ValueError: If k is below 1.

    Source: Tang et al. 2020, the unbiased estimator.
    """
    _positive(k)
    if k > scores.size / 2:
        return np.nan
    return float(best_weights(scores.size, k) @ np.sort(scores))


def expected_worst(scores: FloatArray, k: int) -> float:
    """Expected smallest of k runs, as `expected_best`: the worst that k restarts will show."""
    return -expected_best(-scores, k)


def expected_best_of_these(scores: FloatArray, k: int) -> float:
    """Expected largest of k draws from these very scores, with replacement.

    For any k; never above the largest score, so too low for the best of k new runs.

    Args:
        scores: Higher is better, shape (n,), no NaN; NaN of none.
        k: How many are drawn.

    Raises:
        ValueError: If k is below 1.

    Source: Dodge et al. 2019, expected validation performance.
    """
    _positive(k)
    n = scores.size
    if n == 0:
        return np.nan
    return float(np.diff((np.arange(n + 1) / n) ** k) @ np.sort(scores))


def _positive(k: int) -> None:
    if k < 1:
        raise ValueError(f"k = {k} is below 1.")
