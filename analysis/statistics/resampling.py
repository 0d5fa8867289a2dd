"""What is drawn at random: resamples of one cell, relabellings of two, signs of differences.

Functions that keep their draws name the stream by the sizes alone, so that all cells of a size
share them: no result then depends on another cell or on the order of work. Each interval and each
p-value is valid by itself; only their small Monte-Carlo errors go together.
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
    """Positions drawn with replacement from n sorted scores, ascending within each resample.

    Sorted scores taken at these positions are the order statistics of each resample.

    Args:
        n: Scores in the cell, at least 1.
        resamples: How many to draw.
        rng: Draws them.

    Returns:
        Shape (n, resamples): a column is a resample.
    """
    found = rng.integers(n, size=(resamples, n), dtype=_shortest(n))
    found.sort(axis=1, kind="stable")  # by radix if short
    return found.T.astype(np.intp, order="C")


def resample_counts(n: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """How often each of n things is in each bootstrap resample, shape (resamples, n).

    Whatever is linear in the things is then a product with this matrix.

    Args:
        n: How many there are, at least 1.
        resamples: How many to draw.
        rng: Draws them.
    """
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n)
    return counts.reshape(resamples, n).astype(np.float64)


def _shortest(n: int) -> type[np.integer[Any]]:
    return np.int16 if n <= np.iinfo(np.int16).max else np.intp


@lru_cache(maxsize=32)
def shared(n: int) -> Positions:
    """The N_BOOT resamples that all cells of n scores share, as `drawn` gives them."""
    return drawn(n, resamples=N_BOOT, rng=stream("resamples", str(n)))


def left_out(scores: FloatArray, weights: FloatArray) -> FloatArray:
    """A weighted sum of order statistics, with each score left out in turn.

    Args:
        scores: Ascending, shape (n,), no NaN.
        weights: Of the order statistics of n - 1 scores, shape (n - 1,).

    Returns:
        Shape (n,): entry i is the sum without score i; those above i move down by one.
    """
    before = np.concatenate([[0.0], np.cumsum(weights * scores[:-1])])
    after = np.concatenate([[0.0], np.cumsum(weights * scores[1:])])
    return np.asarray(before + after[-1] - after)


def sd_left_out(scores: FloatArray) -> FloatArray:
    """Sample standard deviation with each score left out in turn; shape (n,), n at least 3."""
    n = scores.size
    off = scores - scores.mean()
    squares = (off**2).sum() - off**2 * (n / (n - 1))
    return np.asarray(np.sqrt(np.maximum(squares, 0) / (n - 2)))


class Ways(NamedTuple):
    """What a permutation test tries.

    Attributes:
        tried: Which scores go into the first group, shape (n_a, ways), or their signs, shape
            (n, ways).
        exhaustive: Whether these are all ways there are.
    """

    tried: npt.NDArray[Any]
    exhaustive: bool

    def p(self, found: FloatArray, observed: float) -> float:
        """Two-sided p-value: in how many ways the statistic is as extreme as it was.

        Args:
            found: Statistic in each way, extreme where large, shape (ways,).
            observed: The statistic as it was.

        Source: Phipson & Smyth 2010: sampled ways count the observed one too, so p is never 0.
        """
        extreme = np.count_nonzero(np.round(found, DECIMALS) >= round(observed, DECIMALS))
        return extreme / found.size if self.exhaustive else (extreme + 1) / (found.size + 1)


def relabellings(n_a: int, n_b: int) -> Ways:
    """All ways to choose n_a of n_a + n_b scores if at most N_BOOT, else as many drawn."""
    n = n_a + n_b
    if comb(n, n_a) <= N_BOOT:
        return Ways(np.array(list(combinations(range(n), n_a))).T, exhaustive=True)
    return Ways(_shuffles(n)[:n_a], exhaustive=False)


@lru_cache(maxsize=16)
def _shuffles(n: int) -> Positions:
    """Random orders of n scores, shape (n, N_BOOT)."""
    orders = np.tile(np.arange(n, dtype=_shortest(n)), (N_BOOT, 1))
    stream("relabellings", str(n)).permuted(orders, axis=1, out=orders)
    return orders.T.astype(np.intp, order="C")


@lru_cache(maxsize=8)
def signs(n: int) -> Ways:
    """All 2**n ways to turn the signs of n differences if at most N_BOOT, else as many drawn."""
    if 2**n <= N_BOOT:
        return Ways(np.array(list(product((-1.0, 1.0), repeat=n))).T, exhaustive=True)
    drawn_signs = 2.0 * stream("signs", str(n)).integers(2, size=(n, N_BOOT)) - 1
    return Ways(drawn_signs, exhaustive=False)
