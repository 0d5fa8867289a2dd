"""What the maximum length cuts off a task's texts."""

from typing import NamedTuple

import numpy as np

from study.tasks.kinds.encoded import Ints

TOLERATED = 0.01  # share of rows that a proposed length may cut
STEP = 16  # proposed lengths are multiples of it


class Truncation(NamedTuple):
    """How much of a task's texts a model does not read, over all splits.

    Attributes:
        rows: Share of rows that lose tokens.
        tokens: Share of all tokens that are lost.
        proposed: The shortest maximum length that cuts no more than `TOLERATED` of the rows.
    """

    rows: float
    tokens: float
    proposed: int


def truncation(lengths: Ints, max_length: int) -> Truncation:
    """What a maximum length cuts.

    Args:
        lengths: Tokens per row without truncation, special tokens included, shape (n_rows,), n_rows
            at least 1.
        max_length: Tokens per row at most.
    """
    lost = np.maximum(lengths - max_length, 0)
    needed = int(np.quantile(lengths, 1 - TOLERATED, method="inverted_cdf"))
    return Truncation(
        rows=float(np.mean(lost > 0)),
        tokens=float(lost.sum() / lengths.sum()),
        proposed=-(-needed // STEP) * STEP,
    )
