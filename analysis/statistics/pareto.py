"""Pareto fronts with tolerances."""

import numpy as np

from analysis.statistics.common import BoolArray, FloatArray


def on_front(goals: FloatArray, tolerance: FloatArray | float = 0.0) -> BoolArray:
    """Mask of the points of each set that are on its Pareto front.

    Args:
        goals: More is better in each; shape (..., n_points, n_goals), no NaN.
        tolerance: Largest difference that counts as none, in the unit of each goal; broadcast to
            shape (n_points, n_points, n_goals), point (rows) against other (columns).

    Returns:
        Shape (..., n_points). A point is off the front if another is nowhere worse and somewhere
        better, both by more than the tolerance. Dominance with tolerances may be cyclic; if that
        leaves no point, all are on the front.

    Source: elementary. Differs: tolerances, without which noise decides the front.
    """
    points, dimensions = goals.shape[-2:]
    slack = np.broadcast_to(tolerance, (points, points, dimensions))
    nowhere_better = np.ones(
        (*goals.shape[:-1], points), dtype=bool
    )  # the point (row) than the other (column)
    worse = np.zeros_like(nowhere_better)
    for d in range(dimensions):
        gap = goals[..., :, None, d] - goals[..., None, :, d]  # (..., point, other)
        nowhere_better &= gap <= slack[..., d]
        worse |= gap < -slack[..., d]
    front = ~(nowhere_better & worse).any(axis=-1)
    return np.asarray(front | ~front.any(axis=-1, keepdims=True))
