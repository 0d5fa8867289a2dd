"""Which scores are no better than a constant predictor's."""

import numpy as np

from analysis.statistics.common import BoolArray, FloatArray


def margin(floor: float, examples: FloatArray, *, bounded: bool) -> FloatArray:
    """How far above the floor a score must be to count as better than a constant prediction.

    Args:
        floor: Score of the constant predictor.
        examples: Number of scored examples, shape (n_runs,); NaN if unknown.
        bounded: Whether scores are in [0, 1] or [-1, 1].

    Returns:
        The larger of one point and two binomial standard errors of the floor, or one point where
        the number of examples is unknown; for unbounded metrics one per cent of the floor. Shape
        (n_runs,).

    Source: Mosbach et al. 2021 and Dodge et al. 2020, failed runs. Differs: they use the floor
        itself; the margin excludes scores that exceed the floor by chance.
    """
    if not bounded:
        return np.full(examples.shape, 0.01 * abs(floor))
    variance = max(floor * (1 - floor), 0.0)
    return np.asarray(np.fmax(0.01, 2 * np.sqrt(variance / examples)))


def at_floor(
    scores: FloatArray, floor: float, examples: FloatArray, *, bounded: bool, sign: float
) -> BoolArray:
    """Whether each score is not above the floor by `margin`; false for NaN.

    Args:
        scores: Shape (n_runs,).
        floor: Score of the constant predictor; NaN if unknown, and then nothing is at it.
        examples: As for `margin`.
        bounded: As for `margin`.
        sign: 1 where higher scores are better, else -1.
    """
    return np.asarray(sign * (scores - floor) <= margin(floor, examples, bounded=bounded))


def gap(scores: FloatArray) -> tuple[int, float]:
    """The widest gap between sorted scores, in pooled standard deviations on its two sides.

    Args:
        scores: Sorted, shape (n_runs,), no NaN.

    Returns:
        The number of scores below the gap with the largest ratio, and that ratio: infinite if both
        groups are constant. (0, 0.0) with fewer than four scores, or if all are equal.
    """
    n = scores.size
    if n < 4 or scores[0] == scores[-1]:
        return 0, 0.0
    counts = np.arange(1, n)
    sums, squares = np.cumsum(scores - scores.mean()), np.cumsum((scores - scores.mean()) ** 2)
    below = squares[:-1] - sums[:-1] ** 2 / counts
    rest, total = sums[-1] - sums[:-1], squares[-1] - squares[:-1]
    above = total - rest**2 / (n - counts)
    within = np.sqrt(np.maximum(below + above, 0.0) / (n - 2))
    widths = np.diff(scores)
    with np.errstate(divide="ignore"):
        ratios = np.where(within > 1e-12, widths / within, np.where(widths > 0, np.inf, 0.0))
    at = int(np.argmax(ratios))
    return at + 1, float(ratios[at])
