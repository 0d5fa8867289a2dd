"""Random draws for resampling: bootstrap samples, relabellings of two cells, sign flips.

Cached draws come from a stream that is seeded by the sizes alone, so that all cells of a size share
them, and no result depends on other cells or on the order of computation. Each interval and each
p-value is valid by itself; only their small Monte Carlo errors are correlated.
"""

from functools import lru_cache
from itertools import combinations, product
from math import comb
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.common import DECIMALS, N_BOOT, FloatArray, stream

Positions = npt.NDArray[np.intp]


def drawn(n: int, *, resamples: int, rng: np.random.Generator) -> Positions:
    """Bootstrap positions among n sorted scores, ascending within each resample.

    Sorted scores at these positions are the order statistics of each resample.

    Args:
        n: Number of scores, at least 1.
        resamples: Number of resamples.
        rng: Generator of the resamples.

    Returns:
        Shape (n, resamples): a column is a resample.
    """
    found = rng.integers(n, size=(resamples, n), dtype=_shortest(n))
    found.sort(axis=1, kind="stable")  # a radix sort for 16-bit integers
    return found.T.astype(np.intp, order="C")


def resample_counts(n: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Counts of n items in each bootstrap resample, shape (resamples, n).

    A statistic that is linear in the items is a product with this matrix.

    Args:
        n: Number of items, at least 1.
        resamples: Number of resamples.
        rng: Generator of the resamples.
    """
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n)
    return counts.reshape(resamples, n).astype(np.float64)


def _shortest(n: int) -> type[np.integer[Any]]:
    return np.int16 if n <= np.iinfo(np.int16).max else np.intp


@lru_cache(maxsize=32)
def shared(n: int) -> Positions:
    """The N_BOOT resamples shared by all cells of n scores, as `drawn` returns them."""
    return drawn(n, resamples=N_BOOT, rng=stream("resamples", str(n)))


def left_out(scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Jackknife values of an L-estimator, a weighted sum of order statistics.

    Args:
        scores: Ascending, shape (n,), no NaN.
        weights: Weights of the order statistics of n - 1 scores, shape (n - 1,).

    Returns:
        Shape (n,): entry i is the estimate without score i; the ranks above i decrease by one.
    """
    before = np.concatenate([[0.0], np.cumsum(weights * scores[:-1])])
    after = np.concatenate([[0.0], np.cumsum(weights * scores[1:])])
    return np.asarray(before + after[-1] - after)


def sd_left_out(scores: FloatArray) -> FloatArray:
    """Jackknife values of the sample standard deviation, shape (n,).

    Args:
        scores: Shape (n,), n at least 3, no NaN.
    """
    n = scores.size
    off = scores - scores.mean()
    squares = (off**2).sum() - off**2 * (n / (n - 1))
    return np.asarray(np.sqrt(np.maximum(squares, 0) / (n - 2)))


class Ways(NamedTuple):
    """The relabellings or sign flips of a permutation test.

    Attributes:
        tried: Indices of the scores in the first group, shape (n_a, ways), or signs, shape
            (n, ways).
        exhaustive: Whether these are all possible ways.
    """

    tried: npt.NDArray[Any]
    exhaustive: bool

    def p(self, found: FloatArray, observed: float) -> float:
        """P-value: share of the ways whose statistic is at least the observed one.

        Args:
            found: Statistic in each way, larger is more extreme, shape (ways,).
            observed: Statistic of the data.

        Source: Phipson & Smyth 2010: sampled ways include the observed one, so p is never 0.
        """
        extreme = np.count_nonzero(np.round(found, DECIMALS) >= round(observed, DECIMALS))
        return extreme / found.size if self.exhaustive else (extreme + 1) / (found.size + 1)


def relabellings(n_a: int, n_b: int) -> Ways:
    """All ways to choose n_a of n_a + n_b scores if at most N_BOOT, else N_BOOT random ones."""
    n = n_a + n_b
    if comb(n, n_a) <= N_BOOT:
        return Ways(np.array(list(combinations(range(n), n_a))).T, exhaustive=True)
    return Ways(_shuffles(n)[:n_a], exhaustive=False)


@lru_cache(maxsize=16)
def _shuffles(n: int) -> Positions:
    """Random permutations of n scores, shape (n, N_BOOT)."""
    orders = np.tile(np.arange(n, dtype=_shortest(n)), (N_BOOT, 1))
    stream("relabellings", str(n)).permuted(orders, axis=1, out=orders)
    return orders.T.astype(np.intp, order="C")


@lru_cache(maxsize=8)
def signs(n: int) -> Ways:
    """All 2**n sign flips of n differences if at most N_BOOT, else N_BOOT random ones."""
    if 2**n <= N_BOOT:
        return Ways(np.array(list(product((-1.0, 1.0), repeat=n))).T, exhaustive=True)
    drawn_signs = 2.0 * stream("signs", str(n)).integers(2, size=(n, N_BOOT)) - 1
    return Ways(drawn_signs, exhaustive=False)
