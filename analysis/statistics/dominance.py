"""Almost stochastic order (ASO) of two score distributions."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

from analysis.statistics.common import ALPHA, DECIMALS, FloatArray
from analysis.statistics.intervals import LEAST_FOR_SD
from analysis.statistics.resampling import Positions, drawn

# Dror et al. 2019 allow a threshold of up to 0.5; Ulmer et al. 2022 and deepsig advise 0.2.
DOMINATES = 0.2

LEAST = 5  # scores of a side for bounds

FALSE_ALARMS = (
    "Of two equal configurations a given one is below it in 2 to 6%, with 5 to 20 seeds each or 5 "
    "against 20; where runs failed there is no bound below 20 seeds, since it would be in 22%."
)


class Order(NamedTuple):
    """Result of the almost stochastic order test of a first cell over a second.

    Attributes:
        epsilon: Violation ratio in [0, 1]: 0 if the first dominates, 1 if the second does.
        bound: Upper confidence bound of epsilon; below `DOMINATES` the first dominates.
        reverse: Upper confidence bound for the second cell over the first.
        reason: `n_too_small`; otherwise empty.
    """

    epsilon: float
    bound: float
    reverse: float
    reason: str


def violation_ratio(a: FloatArray, b: FloatArray) -> float:
    """Violation ratio: share of the squared Wasserstein distance where a's quantiles lie below b's.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN, n_a at least 1.
        b: Scores, likewise, shape (n_b,).

    Returns:
        In [0, 1]; 0.5 if the distributions are equal; swapping a and b gives 1 minus the ratio.

    Source: del Barrio et al. 2018; Dror et al. 2019. Differs: the step functions are integrated
        exactly, not on a grid.
    """
    first, second = (np.sort(np.round(x, DECIMALS))[:, None] for x in (a, b))
    return float(violation_ratios(first, second)[0])


def violation_ratios(a: FloatArray, b: FloatArray) -> FloatArray:
    """`violation_ratio` of many pairs of samples, vectorised.

    Args:
        a: Ascending in each column, rounded, shape (n_a, samples).
        b: Likewise, shape (n_b, samples).

    Returns:
        Shape (samples,).
    """
    if a.shape[0] == b.shape[0]:
        gap = a - b
    else:
        at_a, at_b, widths = _steps(a.shape[0], b.shape[0])
        gap = (a[at_a] - b[at_b]) * np.sqrt(widths)[:, None]
    total = np.einsum("ns,ns->s", gap, gap)
    np.minimum(gap, 0, out=gap)
    violated = np.einsum("ns,ns->s", gap, gap)
    ratios = np.full(total.shape, 0.5)
    np.divide(violated, total, out=ratios, where=total > 0)
    return ratios


@lru_cache(maxsize=64)
def _steps(n: int, m: int) -> tuple[Positions, Positions, FloatArray]:
    """Intervals on which the quantile functions of n and m scores are both constant.

    Returns:
        Per interval the index of the first and of the second sample's score, and its width.
    """
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in units of 1 / (n m)
    widths = np.diff(ends, prepend=0) / (n * m)
    return (ends - 1) // m, (ends - 1) // n, widths


def almost_stochastic_order(
    a: FloatArray,
    b: FloatArray,
    *,
    failed: bool,
    comparisons: int,
    resamples: int,
    rng: np.random.Generator,
) -> Order:
    """Almost stochastic order of two cells, with bootstrap confidence bounds.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).
        failed: Whether a run of either failed.
        comparisons: Number of comparisons, for the Bonferroni correction of the bounds.
        resamples: Number of bootstrap resamples.
        rng: Generator of the resamples, drawn separately for the two cells.

    Returns:
        NaN bounds and `n_too_small` below five scores on a side, or 20 if a run failed.

    Source: Dror et al. 2019; Ulmer et al. 2022. Differs: the level is 1 - alpha / comparisons, and
        both directions come from the same resamples.
    """
    if min(a.size, b.size) < least(failed=failed):
        return order(a, b, np.empty(0), failed=failed, comparisons=comparisons)
    x, y = (np.sort(np.round(each, DECIMALS)) for each in (a, b))
    resampled = [each[drawn(each.size, resamples=resamples, rng=rng)] for each in (x, y)]
    return order(x, y, violation_ratios(*resampled), failed=failed, comparisons=comparisons)


def least(*, failed: bool) -> int:
    """Scores that a side needs for bounds: more if a run failed, since few may miss failures."""
    return LEAST_FOR_SD if failed else LEAST


def order(
    a: FloatArray, b: FloatArray, replicates: FloatArray, *, failed: bool, comparisons: int
) -> Order:
    """Almost stochastic order from given bootstrap replicates.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).
        replicates: Violation ratio of each pair of resamples, shape (resamples,); not read if a
            side has too few scores.
        failed: As for `almost_stochastic_order`.
        comparisons: As for `almost_stochastic_order`.

    Returns:
        NaN bounds as there, and a NaN ratio if a side has no scores.
    """
    epsilon = violation_ratio(a, b) if min(a.size, b.size) else np.nan
    if min(a.size, b.size) < least(failed=failed):
        return Order(epsilon, np.nan, np.nan, "n_too_small")
    error = float(special.ndtri(1 - ALPHA / comparisons) * replicates.std())
    return Order(epsilon, min(1.0, epsilon + error), min(1.0, 1 - epsilon + error), "")
