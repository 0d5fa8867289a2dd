"""Shared by all statistics: array types, levels, equality of scores, and random streams."""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BoolArray = npt.NDArray[np.bool_]

IntArray = npt.NDArray[np.int64]

LEVEL = 0.95  # coverage of every confidence interval

ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # the quantile levels of its ends

ALPHA = 0.05  # significance level of every test, two-sided

POWER = 0.8  # power from which an effect counts as detectable

N_BOOT = 5_000  # resamples or relabellings

DECIMALS = 12  # scores closer than this are equal: accuracies are multiples of 1 / n_rows


class Significance(NamedTuple):
    """Result of a two-sided test.

    Attributes:
        statistic: Test statistic; NaN where there is none.
        p: P-value; NaN where `reason` says why.
        reason: `n_too_small`, `zero_variance` or `all_tied`; otherwise empty.
    """

    statistic: float
    p: float
    reason: str


def stream(*key: str) -> np.random.Generator:
    """A random generator that is seeded by the key alone.

    Draws for one cell thus depend neither on other cells nor on the order of computation.
    """
    digest = hashlib.sha256("\x1f".join(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def constant(scores: FloatArray) -> bool:
    """Whether all scores are equal to twelve decimals; shape (n,), n at least 1."""
    return bool(np.ptp(np.round(scores, DECIMALS)) == 0)
