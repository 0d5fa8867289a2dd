"""Effect sizes: probability of improvement, Cliff's delta, Cohen's d and Hedges' g."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.common import DECIMALS, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.intervals import percentile_interval
from analysis.statistics.resampling import Positions, drawn


def wins(a: FloatArray, b: FloatArray) -> float:
    """Mann-Whitney U: number of pairs of runs in which a is higher; a tie counts half.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.
    """
    a, b = np.round(a, DECIMALS), np.sort(np.round(b, DECIMALS))
    return float((b.searchsorted(a, "left").sum() + b.searchsorted(a, "right").sum()) / 2)


def probability_of_improvement(a: FloatArray, b: FloatArray) -> float:
    """Probability that a run of the first cell beats one of the second; a tie counts half.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).

    Returns:
        In [0, 1]; 0.5 is no difference; NaN if a side has no scores.

    Source: Agarwal et al. 2021, section 4.3; Mann & Whitney 1947, U / (n_a n_b).
    """
    return wins(a, b) / (a.size * b.size) if a.size and b.size else np.nan


def cliffs_delta(a: FloatArray, b: FloatArray) -> float:
    """Cliff's delta: P(a > b) - P(a < b).

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).

    Returns:
        In [-1, 1]; 0 is no difference; NaN if a side has no scores.

    Source: Cliff 1993.
    """
    return 2 * probability_of_improvement(a, b) - 1


def magnitude(delta: float) -> str:
    """Label of a Cliff's delta: negligible, small, medium or large; empty for NaN.

    Source: Romano et al. 2006, bounds 0.147, 0.33 and 0.474.
    """
    if np.isnan(delta):
        return ""
    words = ("negligible", "small", "medium", "large")
    return words[int(np.searchsorted([0.147, 0.33, 0.474], round(abs(delta), DECIMALS), "right"))]


def cohens_d(a: FloatArray, b: FloatArray) -> float:
    """Cohen's d: difference of means over the pooled standard deviation.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        Unitless; NaN below two scores on a side, or if both standard deviations are 0.

    Source: Cohen 1988, chapter 2.
    """
    if min(a.size, b.size) < 2:
        return np.nan
    squares = sd(a) ** 2 * (a.size - 1) + sd(b) ** 2 * (b.size - 1)
    pooled = np.sqrt(squares / (a.size + b.size - 2))
    return float((mean(a) - mean(b)) / pooled) if pooled else np.nan


def hedges_g(a: FloatArray, b: FloatArray) -> float:
    """Hedges' g: Cohen's d with the correction of its small-sample bias.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        Unitless; NaN where `cohens_d` is.

    Source: Hedges 1981, with the approximate factor 1 - 3 / (4 (n_a + n_b) - 9).
    """
    return (1 - 3 / (4 * (a.size + b.size) - 9)) * cohens_d(a, b)


class Counts(NamedTuple):
    """Bootstrap resamples of one cell, as counts of each score.

    Attributes:
        scores: Ascending, rounded, shape (n,).
        each: Count of each score, shape (n, resamples); integers, exact in float32.
        below: Cumulative counts before each position, shape (n + 1, resamples).
    """

    scores: FloatArray
    each: npt.NDArray[np.float32]
    below: npt.NDArray[np.float32]


def counts(scores: FloatArray, positions: Positions) -> Counts:
    """Convert resampled positions to counts.

    Args:
        scores: Ascending, shape (n,), no NaN, n at least 1.
        positions: As `resampling.drawn` returns them, shape (n, resamples).
    """
    n, resamples = positions.shape
    flat = (positions * resamples + np.arange(resamples)).ravel()
    each = np.bincount(flat, minlength=n * resamples).reshape(n, resamples).astype(np.float32)
    below = np.concatenate([np.zeros((1, resamples), np.float32), each.cumsum(axis=0)])
    return Counts(np.round(scores, DECIMALS), each, below)


def resampled_improvement(a: Counts, b: Counts) -> FloatArray:
    """Probability of improvement in each pair of resamples, shape (resamples,).

    Args:
        a: Resamples of the first cell.
        b: Resamples of the second cell, as many.
    """
    lower, upper = (b.scores.searchsorted(a.scores, side) for side in ("left", "right"))
    won = np.einsum("nr,nr->r", a.each, b.below[lower])
    if (lower != upper).any():
        won = (won + np.einsum("nr,nr->r", a.each, b.below[upper])) / 2
    return np.asarray(won / (a.scores.size * b.scores.size), dtype=np.float64)


class Improvement(NamedTuple):
    """Probability of improvement with its 95% interval.

    Attributes:
        estimate: In [0, 1]; 0.5 is no difference; NaN if a side has no scores.
        low: Lower end; NaN where `reason` says why.
        high: Upper end.
        reason: `n_too_small`, or `zero_variance` for an interval of zero width; otherwise empty.
    """

    estimate: float
    low: float
    high: float
    reason: str


def improvement(
    a: Sequence[FloatArray],
    b: Sequence[FloatArray],
    *,
    resamples: int,
    rng: np.random.Generator,
) -> Improvement:
    """Probability of improvement, averaged over tasks, with a stratified bootstrap interval.

    Args:
        a: Scores of the first cell per task, higher is better, each shape (n_a,), no NaN.
        b: Scores of the second cell for the same tasks, each shape (n_b,).
        resamples: Number of bootstrap resamples.
        rng: Generator of the resamples, drawn separately for each cell.

    Returns:
        No interval if a cell has fewer than five scores. A lower end above 0.5 supports the claim
        that the first cell improves on the second.

    Source: Agarwal et al. 2021, sections 4.1 and 4.3.
    """
    pairs = list(zip(a, b, strict=True))
    estimate = float(np.mean([probability_of_improvement(*pair) for pair in pairs]))
    if min(x.size for pair in pairs for x in pair) < 5:
        return Improvement(estimate, np.nan, np.nan, "n_too_small")
    total = np.zeros(resamples)
    for pair in pairs:
        first, second = (
            counts(np.sort(x), drawn(x.size, resamples=resamples, rng=rng)) for x in pair
        )
        total += resampled_improvement(first, second)
    found = percentile_interval(total / len(pairs))
    return Improvement(estimate, found.low, found.high, found.reason)
