"""Where each of several configurations stands, as far as their runs can tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.statistics.common import ALPHA, DECIMALS, N_BOOT, BoolArray, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.multiplicity import holm


class Ranks(NamedTuple):
    """Ranks that a configuration may truly have; 1 is the best.

    Attributes:
        low: The best of them.
        high: The worst.
    """

    low: int
    high: int


@dataclass(frozen=True)
class Resampled:
    """Means of the configurations of one block when each has its runs resampled.

    Attributes:
        names: Configurations with two runs at least, in order of name.
        means: Their means, shape (n_names,).
        draws: Resampled means, rounded to twelve decimals, shape (N_BOOT, n_names).
    """

    names: tuple[str, ...]
    means: FloatArray
    draws: FloatArray


def rank_intervals(scores: Mapping[str, FloatArray]) -> dict[str, Ranks]:
    """Ranks by mean that the runs leave open, for all configurations at once.

    A configuration stands below those that are significantly better, and above those that are
    significantly worse.

    Args:
        scores: By configuration; higher is better, each shape (n,), no NaN.

    Returns:
        For every configuration with a score; the chance that any interval misses its true rank is
        at most 5 %. What cannot be tested leaves the rank open.

    Source: Mogstad et al. 2024, ranks from simultaneous tests of all pairs; here Welch 1947 with
        Holm 1979, so that exact ties are no trouble, as they are for resampled ranks.
    """
    names = sorted(name for name, x in scores.items() if x.size)
    count = len(names)
    if count < 2:
        return {name: Ranks(1, 1) for name in names}
    n = np.array([scores[name].size for name in names])
    centre = np.array([mean(scores[name]) for name in names])
    spread = np.array([sd(scores[name]) for name in names])  # NaN of a single run
    first, second = np.triu_indices(count, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = stats.ttest_ind_from_stats(
            *(each[first] for each in (centre, spread, n)),
            *(each[second] for each in (centre, spread, n)),
            equal_var=False,
        )
    untested = ~(spread[first] + spread[second] > 0)
    differ = holm(np.where(untested, np.nan, found.pvalue)) < ALPHA
    gap = centre[first] - centre[second]
    better = np.zeros((count, count), dtype=bool)  # row is better than column
    better[first, second] = differ & (gap > 0)
    better[second, first] = differ & (gap < 0)
    low, high = 1 + better.sum(axis=0), count - better.sum(axis=1)
    return {name: Ranks(int(low[i]), int(high[i])) for i, name in enumerate(names)}


def resampled(scores: Mapping[str, FloatArray], rng: np.random.Generator) -> Resampled:
    """Resample the runs of every configuration on its own.

    Args:
        scores: By configuration; higher is better, each shape (n,), no NaN. Configurations below
            two runs are left out.
        rng: Draws the resamples.

    Source: Efron & Tibshirani 1993. Differs: deviations are widened by sqrt(n / (n - 1)), which
        the bootstrap lacks at small n.
    """
    names = tuple(sorted(name for name, x in scores.items() if x.size > 1))
    means = np.array([mean(scores[name]) for name in names])
    draws = np.empty((N_BOOT, len(names)))
    for column, name in enumerate(names):
        x = np.sort(scores[name])  # the order of runs is no matter
        drawn = x[resample(x.size, rng)].mean(axis=1)
        draws[:, column] = widened(drawn, means[column], x.size)
    return Resampled(names, means, np.round(draws, DECIMALS))


def resample(n: int, rng: np.random.Generator, times: int = N_BOOT) -> npt.NDArray[np.int32]:
    """Which of n runs are drawn, with replacement; shape (times, n)."""
    return rng.integers(n, size=(times, n), dtype=np.int32)


def widened(draws: FloatArray, centre: float, n: int) -> FloatArray:
    """Resampled means with the spread that a mean of n runs has; n is at least 2."""
    return np.asarray(centre + (draws - centre) * np.sqrt(n / (n - 1)))


def probability_best(found: Resampled) -> dict[str, float]:
    """How often each configuration has the highest mean when the runs are resampled.

    Not the probability that it is the best: with few runs, resampling knows little.

    Args:
        found: The block, resampled.

    Returns:
        Shares that add up to 1, ties split equally.

    Source: Efron & Tibshirani 1993.
    """
    if not found.names:
        return {}
    first = _first(found.draws)
    shares = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return dict(zip(found.names, map(float, shares), strict=True))


def probability_near_best(found: Resampled, rope: float) -> dict[str, float]:
    """How often each configuration is less than `rope` below the highest mean.

    Args:
        found: The block, resampled.
        rope: A difference too small to matter, in the metric's unit.

    Source: Efron & Tibshirani 1993; region of practical equivalence as in Benavoli et al. 2017.
    """
    if not found.names:
        return {}
    gaps = np.round(found.draws.max(axis=1, keepdims=True) - found.draws, DECIMALS)
    return dict(zip(found.names, map(float, (gaps < rope).mean(axis=0)), strict=True))


def optimism(found: Resampled) -> float:
    """By how much the highest mean overstates the mean of the configuration that has it.

    Args:
        found: The block, resampled on the split that chooses.

    Returns:
        To be subtracted from the highest mean; in the metric's unit, NaN if nothing has two runs.
        Too small where several configurations are truly equal: an estimate, not a bound.

    Source: Efron & Tibshirani 1993, nested bootstrap: in each resample, what the winner gains over
        its own mean.
    """
    if not found.names:
        return np.nan
    first = _first(found.draws)
    gains = (first * (found.draws - found.means)).sum(axis=1) / first.sum(axis=1)
    return float(gains.mean())


def expected_elsewhere(found: Resampled, elsewhere: Mapping[str, float]) -> float:
    """Score to expect, on a split that does not choose, of whatever as many new runs would choose.

    Args:
        found: The block, resampled on the split that chooses.
        elsewhere: Mean on the other split by configuration.

    Returns:
        Mean over the resamples of the winner's score; NaN if one that wins has none.

    Source: Efron & Tibshirani 1993.
    """
    shares = probability_best(found)
    wins = [share * elsewhere[name] for name, share in shares.items() if share > 0]
    return float(sum(wins)) if wins else np.nan


def _first(draws: FloatArray) -> BoolArray:
    """Which means are the highest of their resample, shape (N_BOOT, n_names)."""
    return np.asarray(draws == draws.max(axis=1, keepdims=True))
