"""Point estimates of one cell: where its scores lie and how far they scatter."""

import numpy as np
from scipy import stats

from analysis.statistics.common import FloatArray, constant


def mean(scores: FloatArray) -> float:
    """Mean; NaN of no scores. Shape (n,), no NaN.

    Source: elementary.
    """
    return float(scores.mean()) if scores.size else np.nan


def sd(scores: FloatArray) -> float:
    """Sample standard deviation, divisor n - 1; NaN below two scores, exactly 0 if all are equal.

    Args:
        scores: Shape (n,), no NaN.

    Source: elementary. Differs: Du & Nguyen 2023 divide by n.
    """
    if scores.size < 2:
        return np.nan
    return 0.0 if constant(scores) else float(scores.std(ddof=1))


def iqm(scores: FloatArray) -> float:
    """Mean of the middle half: floor(n / 4) scores are cut at each end; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.

    Source: Agarwal et al. 2021, interquartile mean; here within one cell.
    """
    return float(stats.trim_mean(scores, 0.25)) if scores.size else np.nan


def expected_best(scores: FloatArray, k: int) -> float:
    """Expected largest of k runs drawn without replacement: unbiased for the best of k new runs.

    Args:
        scores: Higher is better, shape (n,), no NaN; failed runs at their floor.
        k: How many runs one would do.

    Returns:
        NaN if k > n / 2, where it would rest on a few largest scores.

    Raises:
        ValueError: If k is below 1.

    Source: Tang et al. 2020, the unbiased estimator. Dodge et al. 2019 draw with replacement.
    """
    if k < 1:
        raise ValueError(f"k = {k} is below 1.")
    n = scores.size
    if k > n / 2:
        return np.nan
    weights = np.zeros(n)
    weights[-1] = k / n
    for i in range(n - 1, 0, -1):
        weights[i - 1] = weights[i] * (i + 1 - k) / i
    return float(weights @ np.sort(scores))
