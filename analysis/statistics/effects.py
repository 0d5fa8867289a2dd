"""How large a difference is, free of units."""

import numpy as np

from analysis.statistics.common import DECIMALS, FloatArray


def probability_of_improvement(a: FloatArray, b: FloatArray) -> float:
    """Chance that a run of the first cell beats a run of the second; a tie counts half.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).

    Returns:
        In [0, 1]; 0.5 is no difference; NaN if a side has no scores.

    Source: Agarwal et al. 2021; Mann & Whitney 1947, U / (n_a n_b).
    """
    if min(a.size, b.size) == 0:
        return np.nan
    gap = np.round(a[:, None] - b[None, :], DECIMALS)  # (n_a, n_b)
    return float(((gap > 0) + (gap == 0) / 2).mean())


def cliffs_delta(a: FloatArray, b: FloatArray) -> float:
    """Chance that a beats b minus chance that b beats a, in [-1, 1]; NaN if a side has no scores.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).

    Source: Cliff 1993.
    """
    return 2 * probability_of_improvement(a, b) - 1
