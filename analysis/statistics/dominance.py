"""Almost stochastic order: is one distribution of scores above the other nearly everywhere?"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

from analysis.statistics.common import ALPHA, DECIMALS, FloatArray
from analysis.statistics.resampling import Positions, drawn


class Order(NamedTuple):
    """How far the first cell is from dominating the second.

    Attributes:
        epsilon: Violation ratio in [0, 1]: 0 if the first dominates, 1 if the second does.
        bound: Upper confidence bound of epsilon; below 0.5 the first is almost stochastically
            larger, and a bound of 0.2 keeps the false alarms near their nominal rate.
        reverse: The same bound for the second cell over the first.
        reason: `n_too_small`; otherwise empty.
    """

    epsilon: float
    bound: float
    reverse: float
    reason: str


def violation_ratio(a: FloatArray, b: FloatArray) -> float:
    """Share of the squared Wasserstein distance where the first distribution lies below.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN, n_a at least 1.
        b: Scores, likewise, shape (n_b,).

    Returns:
        In [0, 1]; 0.5 if the distributions are equal; with a and b swapped, 1 minus this.

    Source: del Barrio et al. 2018; Dror et al. 2019. Differs: the step functions are integrated
        exactly, not on a grid.
    """
    first, second = (np.sort(np.round(x, DECIMALS))[:, None] for x in (a, b))
    return float(violation_ratios(first, second)[0])


def violation_ratios(a: FloatArray, b: FloatArray) -> FloatArray:
    """`violation_ratio` of many pairs of samples at once.

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
    """Where two quantile functions of n and m scores are both constant.

    Returns:
        Per step, which score of the first and of the second it holds, and its width.
    """
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in units of 1 / (n m)
    widths = np.diff(ends, prepend=0) / (n * m)
    return (ends - 1) // m, (ends - 1) // n, widths


def almost_stochastic_order(
    a: FloatArray,
    b: FloatArray,
    *,
    comparisons: int,
    resamples: int,
    rng: np.random.Generator,
) -> Order:
    """Almost stochastic order of two cells, with bounds from the bootstrap.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).
        comparisons: Pairs that are read together; the bounds hold for all of them.
        resamples: How many to draw.
        rng: Draws them, separately for the two cells.

    Source: Dror et al. 2019; Ulmer et al. 2022. Differs: the level is 1 - alpha / comparisons, and
        both directions come from the same resamples.
    """
    if min(a.size, b.size) < 5:
        return order(a, b, np.empty(0), comparisons=comparisons)
    x, y = (np.sort(np.round(each, DECIMALS)) for each in (a, b))
    resampled = [each[drawn(each.size, resamples=resamples, rng=rng)] for each in (x, y)]
    return order(x, y, violation_ratios(*resampled), comparisons=comparisons)


def order(a: FloatArray, b: FloatArray, replicates: FloatArray, *, comparisons: int) -> Order:
    """The order, from violation ratios of resamples.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).
        replicates: Violation ratio of each pair of resamples, shape (resamples,); not read below
            five scores on a side.
        comparisons: Pairs that are read together.

    Returns:
        No bounds below five scores on a side, and no ratio if a side has none.
    """
    epsilon = violation_ratio(a, b) if min(a.size, b.size) else np.nan
    if min(a.size, b.size) < 5:
        return Order(epsilon, np.nan, np.nan, "n_too_small")
    error = float(special.ndtri(1 - ALPHA / comparisons) * replicates.std())
    return Order(epsilon, min(1.0, epsilon + error), min(1.0, 1 - epsilon + error), "")
