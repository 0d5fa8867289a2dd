"""Is one mean higher than another, by more than seeds would make?"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics.common import LEVEL, N_BOOT, FloatArray, Significance, constant
from analysis.statistics.estimates import mean


class Difference(NamedTuple):
    """First mean minus second, in the unit of the scores.

    Attributes:
        estimate: The difference; NaN only if a side has no scores.
        low: Lower end of the 95 % interval; NaN where `reason` says why.
        high: Upper end.
        statistic: Welch's t.
        df: Its degrees of freedom.
        p: Its p-value, two-sided.
        reason: `n_too_small` or `zero_variance`; otherwise empty.
    """

    estimate: float
    low: float
    high: float
    statistic: float
    df: float
    p: float
    reason: str


def welch(a: FloatArray, b: FloatArray) -> Difference:
    """Difference of means whose variances need not be equal.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        No p-value and no interval below two scores on a side or if neither side scatters; the
        difference itself is always there.

    Source: Welch 1947.
    """
    nothing = (np.nan,) * 5
    if min(a.size, b.size) < 2:
        return Difference(mean(a) - mean(b), *nothing, "n_too_small")
    if constant(a) and constant(b):
        return Difference(mean(a) - mean(b), *nothing, "zero_variance")
    found = stats.ttest_ind(a, b, equal_var=False)
    interval = found.confidence_interval(LEVEL)
    return Difference(
        estimate=mean(a) - mean(b),
        low=float(interval.low),
        high=float(interval.high),
        statistic=float(found.statistic),
        df=float(found.df),
        p=float(found.pvalue),
        reason="",
    )


def permutation(a: FloatArray, b: FloatArray, *, rng: np.random.Generator) -> Significance:
    """Could the labels be swapped? Permutation test of the difference of means.

    Args:
        a: Scores, shape (n_a,), no NaN; failed runs at their floor.
        b: Scores, shape (n_b,), likewise.
        rng: Draws the relabellings where there are too many to try them all.

    Returns:
        The difference and its p-value; none below two scores on a side, or if all are equal.

    Source: Fisher 1935; Phipson & Smyth 2010 for sampled relabellings, where p is never 0.
    """
    if min(a.size, b.size) < 2:
        return Significance(mean(a) - mean(b), np.nan, "n_too_small")
    if constant(np.concatenate([a, b])):
        return Significance(mean(a) - mean(b), np.nan, "zero_variance")

    def difference(x: FloatArray, y: FloatArray, axis: int) -> FloatArray:
        return np.asarray(x.mean(axis) - y.mean(axis))

    found = stats.permutation_test((a, b), difference, n_resamples=N_BOOT, vectorized=True, rng=rng)
    return Significance(float(found.statistic), float(found.pvalue), "")
