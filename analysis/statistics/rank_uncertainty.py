"""Uncertainty of the ranking of configurations: rank intervals, probability of being best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.statistics.common import ALPHA, DECIMALS, N_BOOT, BoolArray, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.multiplicity import holm


class Ranks(NamedTuple):
    """Confidence interval of a rank; 1 is the best.

    Attributes:
        low: Best rank.
        high: Worst rank.
    """

    low: int
    high: int


@dataclass(frozen=True)
class Resampled:
    """Bootstrap means of the configurations of one block.

    Attributes:
        names: Configurations with at least two runs, sorted.
        means: Their means, shape (n_names,).
        draws: Resampled means, rounded to twelve decimals, shape (N_BOOT, n_names).
    """

    names: tuple[str, ...]
    means: FloatArray
    draws: FloatArray


class Order(NamedTuple):
    """Which configurations are significantly better than which.

    Attributes:
        names: Configurations with a score, sorted.
        better: Whether the mean of the row's is above that of the column's, shape
            (n_names, n_names).
        untested: Whether the two could not be tested, likewise.
    """

    names: tuple[str, ...]
    better: BoolArray
    untested: BoolArray


def significant_order(scores: Mapping[str, FloatArray]) -> Order:
    """Compare all pairs of configurations at once.

    Args:
        scores: By configuration; higher is better, each shape (n,), no NaN.

    Returns:
        The order that all significant differences imply together: if a is better than b and b
        better than c, then a is better than c. All of it is correct with a probability of at least
        95%, for means over the runs as they scattered here: failures that are possible but did not
        occur in the runs are not foreseen.

    Source: Welch 1947 with Holm 1979 over all pairs. Differs: the degrees of freedom are at most
        those of two cells of the smaller size, since Welch's are too many in the far tails that
        many pairs need (at 3 and 20 runs, an error of 5% becomes 17% with 20 configurations).
    """
    names = tuple(sorted(name for name, x in scores.items() if x.size))
    n = np.array([scores[name].size for name in names], dtype=float)
    centre = np.array([mean(scores[name]) for name in names])
    errors = np.array([sd(scores[name]) for name in names]) ** 2 / n  # squared; NaN of one run
    first, second = np.triu_indices(len(names), 1)
    gap = centre[first] - centre[second]
    both = errors[first] + errors[second]
    untested = ~(both > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = both**2 / (errors[first] ** 2 / (n[first] - 1) + errors[second] ** 2 / (n[second] - 1))
        df = np.minimum(df, 2 * (np.minimum(n[first], n[second]) - 1))
        p = np.where(untested, np.nan, 2 * special.stdtr(df, -np.abs(gap) / np.sqrt(both)))
    differ = holm(p) < ALPHA
    better, unknown = np.zeros((2, len(names), len(names)), dtype=bool)
    better[first, second] = differ & (gap > 0)
    better[second, first] = differ & (gap < 0)
    unknown[first, second] = unknown[second, first] = untested
    while (implied := better | (better @ better)).sum() > better.sum():
        better = implied
    return Order(names, better, unknown)


def rank_intervals(scores: Mapping[str, FloatArray]) -> dict[str, Ranks]:
    """Simultaneous confidence intervals of the ranks by mean.

    A configuration ranks below those that are significantly better, and above those that are
    significantly worse. So rank 1 is possible exactly for the members of `tie_set`, and a single
    member has rank 1 for certain.

    Args:
        scores: By configuration; higher is better, each shape (n,), no NaN.

    Returns:
        One interval per configuration with a score. Simultaneous coverage is at least 95%. A
        comparison that cannot be tested leaves the order open.

    Source: Mogstad et al. 2024, ranks from simultaneous tests of all pairs; here those of
        `significant_order`, which are valid with exact ties, unlike bootstrap ranks.
    """
    names, better, _ = significant_order(scores)
    low, high = 1 + better.sum(axis=0), len(names) - better.sum(axis=1)
    return {name: Ranks(int(low[i]), int(high[i])) for i, name in enumerate(names)}


def resampled(scores: Mapping[str, FloatArray], rng: np.random.Generator) -> Resampled:
    """Bootstrap the mean of each configuration independently.

    Args:
        scores: By configuration; higher is better, each shape (n,), no NaN. Configurations below
            two runs are left out.
        rng: Generator of the resamples.

    Source: Efron & Tibshirani 1993. Differs: deviations are scaled by sqrt(n / (n - 1)), since the
        bootstrap variance is too small by (n - 1) / n.
    """
    names = tuple(sorted(name for name, x in scores.items() if x.size > 1))
    means = np.array([mean(scores[name]) for name in names])
    draws = np.empty((N_BOOT, len(names)))
    for column, name in enumerate(names):
        x = np.sort(scores[name])  # makes results independent of the order of runs
        drawn = x[resample(x.size, rng)].mean(axis=1)
        draws[:, column] = widened(drawn, means[column], x.size)
    return Resampled(names, means, np.round(draws, DECIMALS))


def resample(n: int, rng: np.random.Generator, times: int = N_BOOT) -> npt.NDArray[np.int32]:
    """Indices of n runs drawn with replacement, shape (times, n)."""
    return rng.integers(n, size=(times, n), dtype=np.int32)


def widened(draws: FloatArray, centre: float, n: int) -> FloatArray:
    """Scale deviations of bootstrap means by sqrt(n / (n - 1)), for an unbiased variance.

    Args:
        draws: Bootstrap means.
        centre: Mean of the scores.
        n: Number of scores, at least 2.
    """
    return np.asarray(centre + (draws - centre) * np.sqrt(n / (n - 1)))


def probability_best(found: Resampled) -> dict[str, float]:
    """Share of the resamples in which each configuration has the highest mean.

    Not the probability that it is the best: with few runs the bootstrap is unreliable.

    Args:
        found: Bootstrap means of the block.

    Returns:
        Shares that sum to 1, ties split equally; empty without configurations.

    Source: Efron & Tibshirani 1993.
    """
    if not found.names:
        return {}
    first = _first(found.draws)
    shares = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return dict(zip(found.names, map(float, shares), strict=True))


def probability_near_best(found: Resampled, rope: float) -> dict[str, float]:
    """Share of the resamples in which each configuration is within `rope` of the highest mean.

    Args:
        found: Bootstrap means of the block.
        rope: Half-width of the region of practical equivalence, in the metric's unit.

    Returns:
        Shares in [0, 1], by configuration.

    Source: Efron & Tibshirani 1993; region of practical equivalence as in Benavoli et al. 2017.
    """
    if not found.names:
        return {}
    gaps = np.round(found.draws.max(axis=1, keepdims=True) - found.draws, DECIMALS)
    return dict(zip(found.names, map(float, (gaps < rope).mean(axis=0)), strict=True))


def optimism(found: Resampled) -> float:
    """Selection bias (winner's curse) of the highest mean.

    Args:
        found: Bootstrap means of the block on the split used for selection.

    Returns:
        Estimate to subtract from the highest mean, in the metric's unit; NaN if no configuration
        has two runs. Too small if several configurations are truly equal: not a bound.

    Source: Efron & Tibshirani 1993: mean over resamples of the winner's bootstrap mean minus its
        own mean.
    """
    if not found.names:
        return np.nan
    first = _first(found.draws)
    gains = (first * (found.draws - found.means)).sum(axis=1) / first.sum(axis=1)
    return float(gains.mean())


def expected_elsewhere(found: Resampled, elsewhere: Mapping[str, float]) -> float:
    """Expected score, on another split, of the configuration that new runs would select.

    Args:
        found: Bootstrap means of the block on the split used for selection.
        elsewhere: Mean on the other split, by configuration.

    Returns:
        Mean over the resamples of the winner's score, in the metric's unit; NaN if a winner has
        none.

    Source: Efron & Tibshirani 1993.
    """
    shares = probability_best(found)
    wins = [share * elsewhere[name] for name, share in shares.items() if share > 0]
    return float(sum(wins)) if wins else np.nan


def _first(draws: FloatArray) -> BoolArray:
    """Mask of the highest mean in each resample, shape (N_BOOT, n_names)."""
    return np.asarray(draws == draws.max(axis=1, keepdims=True))
