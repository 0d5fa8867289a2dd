"""Multiple testing: adjusted p-values, and levels of simultaneous intervals."""

import numpy as np
from scipy import stats

from analysis.statistics.common import LEVEL, FloatArray


def holm(p: FloatArray) -> FloatArray:
    """Holm-adjusted p-values, which control the family-wise error rate.

    Own code, since scipy adjusts for the false discovery rate only.

    Args:
        p: Shape (m,); NaN stays NaN and is not counted in m.

    Returns:
        Shape (m,).

    Source: Holm 1979.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Benjamini-Hochberg-adjusted p-values, which control the false discovery rate.

    Args:
        p: Shape (m,); NaN stays NaN and is not counted in m.

    Returns:
        Shape (m,).

    Source: Benjamini & Hochberg 1995.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted


def simultaneous(count: int) -> float:
    """Level of each of several intervals that all cover together with a probability of 95%.

    The interval of one of them then covers however that one was chosen, even by the same runs.

    Args:
        count: Number of intervals; 0 counts as 1.

    Source: Bonferroni; for what was chosen by the same data, Berk et al. 2013.
    """
    return 1 - (1 - LEVEL) / max(1, count)
