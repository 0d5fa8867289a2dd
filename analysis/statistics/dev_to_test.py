"""How well selection on dev transfers to test."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.statistics.common import DECIMALS, BoolArray, FloatArray

ORDERS = 1_000  # random orders of the seeds


class Transfer(NamedTuple):
    """Test performance of the configuration with the highest dev mean over k runs.

    Attributes:
        agreement: Share of selections with the highest test mean over all runs, shape (n_k,).
        level: Share of selections inside the test tie set, shape (n_k,).
        regret: Mean gap of the selection's test mean to the highest, shape (n_k,), metric's unit.
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
    """Select on dev with random subsets of k seeds, and evaluate the selection on test.

    Args:
        dev: Dev scores, higher is better, shape (n_configurations, n_seeds); NaN where a
            configuration has no run with that seed.
        test: Test mean of each configuration, shape (n_configurations,), no NaN.
        level: Which configurations are in the test tie set, shape (n_configurations,).
        sizes: The values of k; none may exceed the smallest number of runs of a configuration.
        rng: Generator of the orders of seeds. Each configuration takes the first k seeds that it
            has, so that all share seeds as in a small study.

    Returns:
        Configurations with equal dev means share a selection equally; equal test means all count
        as the highest.

    Source: elementary; subsamples without replacement as in Tang et al. 2020.
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
