"""What every statistic shares: levels, equality, and streams of random numbers."""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BoolArray = npt.NDArray[np.bool_]

IntArray = npt.NDArray[np.int64]

LEVEL = 0.95  # of every interval

ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # the quantiles that it lies between

ALPHA = 0.05  # of every test, two-sided

POWER = 0.8  # at which a difference counts as detectable

N_BOOT = 5_000

DECIMALS = 12  # scores closer than this are equal: accuracies are multiples of 1 / n_rows


class Significance(NamedTuple):
    """A two-sided test.

    Attributes:
        statistic: The test's statistic; NaN where there is none.
        p: Its p-value; NaN where `reason` says why.
        reason: `n_too_small`, `zero_variance` or `all_tied`; otherwise empty.
    """

    statistic: float
    p: float
    reason: str


def stream(*key: str) -> np.random.Generator:
    """A generator of its own for whatever the key names.

    What one cell draws thus depends on no other cell, nor on the order in which they come.
    """
    digest = hashlib.sha256("\x1f".join(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def constant(scores: FloatArray) -> bool:
    """Whether all scores are equal to twelve decimals; shape (n,), n at least 1."""
    return bool(np.ptp(np.round(scores, DECIMALS)) == 0)
