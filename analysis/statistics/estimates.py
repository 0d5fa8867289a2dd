"""Point estimates of one cell: location, spread, and expected best of k runs.

Mean, median, interquartile mean and best of k are L-estimators: weighted sums of the sorted scores.
The bootstrap and the jackknife use the same weights.
"""

from collections.abc import Callable

import numpy as np

from analysis.statistics.common import FloatArray, constant

Weights = Callable[[int], FloatArray]  # from n to the weights of n sorted scores, shape (n,)


def mean_weights(n: int) -> FloatArray:
    """Weights of n sorted scores in their mean, shape (n,)."""
    return np.full(n, 1 / n)


def median_weights(n: int) -> FloatArray:
    """Weights of n sorted scores in their median, shape (n,)."""
    weights = np.zeros(n)
    weights[(n - 1) // 2] += 0.5
    weights[n // 2] += 0.5
    return weights


def iqm_weights(n: int) -> FloatArray:
    """Weights of n sorted scores in their interquartile mean, shape (n,)."""
    cut = n // 4
    weights = np.zeros(n)
    weights[cut : n - cut] = 1 / (n - 2 * cut)
    return weights


def best_weights(n: int, k: int) -> FloatArray:
    """Weights of n sorted scores in the unbiased expected maximum of k, shape (n,).

    Args:
        n: Number of scores, at least k.
        k: Number of runs to take the maximum of, at least 1.

    Source: Tang et al. 2020: the probability that a score is the maximum of a random subset of k.
    """
    i = np.arange(n, 1, -1)
    factors = np.maximum(i - k, 0) / (i - 1)
    return np.concatenate([[k / n], factors]).cumprod()[::-1]


def mean(scores: FloatArray) -> float:
    """Mean, in the unit of the scores; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.

    Source: elementary.
    """
    return float(scores.mean()) if scores.size else np.nan


def median(scores: FloatArray) -> float:
    """Median, in the unit of the scores; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.

    Source: elementary.
    """
    return float(np.median(scores)) if scores.size else np.nan


def iqm(scores: FloatArray) -> float:
    """Interquartile mean: floor(n / 4) scores are trimmed at each end; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.

    Source: Agarwal et al. 2021, section 4.3, interquartile mean; here within one cell.
    """
    return float(iqm_weights(scores.size) @ np.sort(scores)) if scores.size else np.nan


def quantiles(scores: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Quantiles, interpolated linearly between order statistics; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.
        levels: In [0, 1], shape (k,).

    Returns:
        Shape (k,).

    Source: Hyndman & Fan 1996, definition 7.
    """
    return np.quantile(scores, levels) if scores.size else np.full(len(levels), np.nan)


def iqr(scores: FloatArray) -> float:
    """Interquartile range; 0 of one score, NaN of none.

    Args:
        scores: Shape (n,), no NaN.

    Source: elementary; quartiles by `quantiles`.
    """
    low, high = quantiles(scores, (0.25, 0.75))
    return float(high - low)


def mad(scores: FloatArray) -> float:
    """Median absolute deviation (MAD), unscaled; 0 of one score, NaN of none.

    Multiplied by 1.4826 it estimates the standard deviation of normal scores.

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
    """Coefficient of variation: standard deviation over the absolute mean.

    Args:
        scores: Shape (n,), no NaN.

    Returns:
        Unitless. NaN below two scores, and if the scores reach or cross 0, where the mean is no
        meaningful scale.

    Source: elementary, divisor n - 1.
    """
    if scores.size < 2 or scores.min() <= 0 <= scores.max():
        return np.nan
    return sd(scores) / abs(mean(scores))


def expected_best(scores: FloatArray, k: int) -> float:
    """Expected maximum of k runs drawn without replacement; unbiased for k new runs.

    Args:
        scores: Higher is better, shape (n,), no NaN; failed runs at their floor.
        k: Number of runs to take the maximum of.

    Returns:
        In the unit of the scores. NaN if k > n / 2, where the few largest scores would decide.

    Raises:
        ValueError: If k is below 1.

    Source: Tang et al. 2020, the unbiased estimator.
    """
    _positive(k)
    if k > scores.size / 2:
        return np.nan
    return float(best_weights(scores.size, k) @ np.sort(scores))


def expected_worst(scores: FloatArray, k: int) -> float:
    """Expected minimum of k runs; otherwise as `expected_best`.

    Args:
        scores: Shape (n,), no NaN; failed runs at their floor.
        k: Number of runs to take the minimum of.

    Raises:
        ValueError: If k is below 1.

    Source: Tang et al. 2020, the unbiased estimator of negated scores.
    """
    return -expected_best(-scores, k)


def expected_best_of_these(scores: FloatArray, k: int) -> float:
    """Expected maximum of k draws with replacement from the given scores.

    Defined for any k. It never exceeds the largest score, so it is biased low for k new runs.

    Args:
        scores: Higher is better, shape (n,), no NaN.
        k: Number of draws.

    Returns:
        In the unit of the scores; NaN of no scores.

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
