"""How far a choice made on one split holds on another."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.statistics.common import DECIMALS, BoolArray, FloatArray

ORDERS = 1_000  # in which the runs of a block are drawn


class Transfer(NamedTuple):
    """What choosing the highest dev mean of k runs per configuration gives on test.

    Attributes:
        agreement: Share of choices that have the highest test mean of all runs, shape (n_k,).
        level: Share of choices that test cannot tell from that, shape (n_k,).
        regret: Mean distance of the choice's test mean from the highest, likewise.
        optimism: Mean of its dev mean over the k runs minus its dev mean over all, likewise.
    """

    agreement: FloatArray
    level: FloatArray
    regret: FloatArray
    optimism: FloatArray


def transfer(
    dev: FloatArray,
    test: FloatArray,
    *,
    level: BoolArray,
    sizes: Sequence[int],
    rng: np.random.Generator,
) -> Transfer:
    """Choose on dev with k of the seeds, many times over, and look the choice up on test.

    Args:
        dev: Dev scores, higher is better, shape (n_configurations, n_seeds); NaN where a
            configuration has no run with that seed.
        test: Test mean of each configuration, shape (n_configurations,), no NaN.
        level: Which configurations test cannot tell from its best, shape (n_configurations,).
        sizes: The k, none above the fewest runs that a configuration has.
        rng: Draws the order of the seeds, of which each configuration takes the first k that it
            has: a small study gives all configurations the same seeds.

    Returns:
        Equal dev means share a choice equally; equal test means are all the highest.

    Source: elementary; sub-samples without replacement as in Tang et al. 2020.
    """
    order = rng.permuted(np.tile(np.arange(dev.shape[1]), (ORDERS, 1)), axis=1)
    last = np.asarray(sizes) - 1
    means = np.empty((len(dev), ORDERS, len(sizes)))
    for row, x in enumerate(dev):
        drawn = x[order]  # (ORDERS, n_seeds)
        if np.isnan(x).any():
            absent = np.argsort(np.isnan(drawn), axis=1, kind="stable")
            drawn = np.take_along_axis(drawn, absent, axis=1)
        means[row] = np.cumsum(drawn, axis=1)[:, last] / np.asarray(sizes)
    means = np.round(means, DECIMALS)
    chosen = means == means.max(axis=0)  # (n_configurations, ORDERS, n_k)
    share = chosen / chosen.sum(axis=0)
    frequency = share.mean(axis=1)  # (n_configurations, n_k)
    behind = np.round(test.max() - test, DECIMALS)
    own = np.nanmean(dev, axis=1)[:, None, None]
    return Transfer(
        agreement=(behind == 0) @ frequency,
        level=level @ frequency,
        regret=behind @ frequency,
        optimism=np.round((share * (means - own)).sum(axis=0).mean(axis=0), DECIMALS),
    )
