"""Between cells: is the difference, in mean or in scatter, more than seeds would make?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.instability import ALPHA, DECIMALS, LEVEL, N_BOOT, FloatArray, constant, mean, sd


class Significance(NamedTuple):
    """A two-sided test.

    Attributes:
        statistic: The test's statistic; NaN where there is none.
        p: Its p-value; NaN where `reason` says why.
        reason: `n_too_small` or `zero_variance`; otherwise empty.
    """

    statistic: float
    p: float
    reason: str


class Difference(NamedTuple):
    """First mean minus second, in the unit of the scores.

    Attributes:
        estimate: The difference; NaN only if a side has no scores.
        low: Lower end of the 95 % interval; NaN where `reason` says why.
        high: Upper end.
        statistic: Welch's t.
        df: Its degrees of freedom.
        p: Its p-value, two-sided.
        reason: `n_too_small` or `zero_variance`; otherwise empty.
    """

    estimate: float
    low: float
    high: float
    statistic: float
    df: float
    p: float
    reason: str


class Ratio(NamedTuple):
    """First standard deviation over second.

    Attributes:
        estimate: The ratio; NaN where a side has no scatter or too few scores.
        low: Lower end of the 95 % interval; NaN where `reason` says why.
        high: Upper end.
        method: `F` or `bootstrap`; empty where there is no interval.
        reason: `n_too_small` or `zero_variance`; otherwise empty.
    """

    estimate: float
    low: float
    high: float
    method: str
    reason: str


@dataclass(frozen=True)
class TieSet:
    """The configurations that the runs cannot tell from the best.

    Attributes:
        best: Highest mean; empty if nothing has a score.
        members: Best and all that are not significantly worse, by falling mean, then name.
        untested: Members that stay only because they could not be tested.
        unscored: Configurations without any score; neither in nor out.
        p: Welch p-value of the best against each other configuration that has scores.
        p_holm: The same, adjusted for their number.
        recommended: One member, by the secondary criteria.
        decided_by: The criteria that were needed, such as `lower failure rate, then smaller sd`.
    """

    best: str
    members: tuple[str, ...]
    untested: tuple[str, ...]
    unscored: tuple[str, ...]
    p: Mapping[str, float]
    p_holm: Mapping[str, float]
    recommended: str
    decided_by: str


def brown_forsythe(*groups: FloatArray) -> Significance:
    """Do the groups scatter equally? Analysis of variance of the distances from group medians.

    Args:
        groups: Two or more arrays of scores, each shape (n,), no NaN.

    Returns:
        No p-value if a group has fewer than three scores, where the distances are equal by
        construction, or if no group scatters.

    Source: Brown & Forsythe 1974.
    """
    if min(group.size for group in groups) < 3:
        return Significance(np.nan, np.nan, "n_too_small")
    if all(constant(group) for group in groups):
        return Significance(np.nan, np.nan, "zero_variance")
    found = stats.levene(*groups, center="median")
    return Significance(float(found.statistic), float(found.pvalue), "")


def sd_ratio(a: FloatArray, b: FloatArray) -> Ratio:
    """Ratio of standard deviations with the interval of the F distribution; for clean cells.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Source: elementary; exact for normal data, wrong where runs fail.
    """
    estimate, reason = _ratio(a, b)
    if reason:
        return Ratio(estimate, np.nan, np.nan, "", reason)
    df = a.size - 1, b.size - 1
    low = estimate / np.sqrt(stats.f.ppf((1 + LEVEL) / 2, *df))
    high = estimate / np.sqrt(stats.f.ppf((1 - LEVEL) / 2, *df))
    return Ratio(estimate, float(low), float(high), "F", "")


def sd_ratio_bootstrap(a: FloatArray, b: FloatArray, *, rng: np.random.Generator) -> Ratio:
    """Ratio of standard deviations with a percentile bootstrap interval; for cells with failures.

    Args:
        a: Scores, shape (n_a,), no NaN; failed runs at their floor.
        b: Scores, shape (n_b,), likewise.
        rng: Draws the resamples, separately for the two sides.

    Returns:
        No interval if a side has fewer than 20 scores: it would miss the truth too often.

    Source: Efron & Tibshirani 1993, percentile interval. A resample without scatter counts as the
        smallest that has some.
    """
    estimate, reason = _ratio(a, b)
    if not reason and min(a.size, b.size) < 20:
        reason = "n_too_small"
    if reason:
        return Ratio(estimate, np.nan, np.nan, "", reason)
    spreads = []
    for side in (a, b):
        spread = side[rng.integers(side.size, size=(N_BOOT, side.size))].std(axis=1, ddof=1)
        spreads.append(np.maximum(spread, spread[spread > 10.0**-DECIMALS].min()))
    low, high = np.quantile(spreads[0] / spreads[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(estimate, float(low), float(high), "bootstrap", "")


def _ratio(a: FloatArray, b: FloatArray) -> tuple[float, str]:
    if min(a.size, b.size) < 2:
        return np.nan, "n_too_small"
    if constant(a) or constant(b):
        return np.nan, "zero_variance"
    return sd(a) / sd(b), ""


def welch(a: FloatArray, b: FloatArray) -> Difference:
    """Difference of means whose variances need not be equal.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        No p-value and no interval below two scores on a side or if neither side scatters; the
        difference itself is always there.

    Source: Welch 1947.
    """
    nothing = (np.nan,) * 5
    if min(a.size, b.size) < 2:
        return Difference(mean(a) - mean(b), *nothing, "n_too_small")
    if constant(a) and constant(b):
        return Difference(mean(a) - mean(b), *nothing, "zero_variance")
    found = stats.ttest_ind(a, b, equal_var=False)
    interval = found.confidence_interval(LEVEL)
    return Difference(
        estimate=mean(a) - mean(b),
        low=float(interval.low),
        high=float(interval.high),
        statistic=float(found.statistic),
        df=float(found.df),
        p=float(found.pvalue),
        reason="",
    )


def permutation(a: FloatArray, b: FloatArray, *, rng: np.random.Generator) -> Significance:
    """Could the labels be swapped? Permutation test of the difference of means.

    Args:
        a: Scores, shape (n_a,), no NaN; failed runs at their floor.
        b: Scores, shape (n_b,), likewise.
        rng: Draws the relabellings where there are too many to try them all.

    Returns:
        The difference and its p-value; none below two scores on a side, or if all are equal.

    Source: Fisher 1935; Phipson & Smyth 2010 for sampled relabellings, where p is never 0.
    """
    if min(a.size, b.size) < 2:
        return Significance(mean(a) - mean(b), np.nan, "n_too_small")
    if constant(np.concatenate([a, b])):
        return Significance(mean(a) - mean(b), np.nan, "zero_variance")

    def difference(x: FloatArray, y: FloatArray, axis: int) -> FloatArray:
        return np.asarray(x.mean(axis) - y.mean(axis))

    found = stats.permutation_test((a, b), difference, n_resamples=N_BOOT, vectorized=True, rng=rng)
    return Significance(float(found.statistic), float(found.pvalue), "")


def fisher(a: tuple[int, int], b: tuple[int, int]) -> Significance:
    """Do runs fail equally often? Fisher's exact test.

    Args:
        a: Failed and finished runs of the first cell.
        b: Failed and finished runs of the second cell.

    Returns:
        The odds ratio and the p-value; none if a cell has no runs.

    Source: Fisher 1935.
    """
    if min(a[1], b[1]) == 0:
        return Significance(np.nan, np.nan, "n_too_small")
    found = stats.fisher_exact([[failed, finished - failed] for failed, finished in (a, b)])
    return Significance(float(found.statistic), float(found.pvalue), "")


def holm(p: FloatArray) -> FloatArray:
    """P-values adjusted so that the chance of any false alarm among them stays below alpha.

    Args:
        p: Shape (m,); NaN stays NaN and is not counted in m.

    Source: Holm 1979.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def probability_of_improvement(a: FloatArray, b: FloatArray) -> float:
    """Chance that a run of the first cell beats a run of the second; a tie counts half.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).

    Returns:
        In [0, 1]; 0.5 is no difference; NaN if a side has no scores.

    Source: Agarwal et al. 2021; Mann & Whitney 1947, U / (n_a n_b).
    """
    if min(a.size, b.size) == 0:
        return np.nan
    gap = np.round(a[:, None] - b[None, :], DECIMALS)  # (n_a, n_b)
    return float(((gap > 0) + (gap == 0) / 2).mean())


def cliffs_delta(a: FloatArray, b: FloatArray) -> float:
    """Chance that a beats b minus chance that b beats a, in [-1, 1]; NaN if a side has no scores.

    Args:
        a: Scores, higher is better, shape (n_a,), no NaN.
        b: Scores, likewise, shape (n_b,).

    Source: Cliff 1993.
    """
    return 2 * probability_of_improvement(a, b) - 1


def tie_set(
    scores: Mapping[str, FloatArray],
    *,
    failures: Mapping[str, int],
    seconds: Mapping[str, float],
) -> TieSet:
    """The best configuration, all that cannot be told from it, and one of them to use.

    Args:
        scores: By configuration, on the split that may choose; higher is better, each shape (n,),
            no NaN, failed runs at their floor.
        failures: By configuration, how many of those runs failed.
        seconds: By configuration, what a run costs; NaN if unknown.

    Returns:
        The tie set. Among its members decide, in this order: lower failure rate (if the difference
        is a run at least), smaller standard deviation, lower cost, name.

    Source: Welch 1947 with Holm 1979 over the comparisons with the best. Differs: the best is
        chosen from the same runs, which Holm's caution roughly repays; Hsu 1984 is exact.
    """
    unscored = tuple(sorted(name for name, x in scores.items() if x.size == 0))
    ranked = sorted(
        (name for name, x in scores.items() if x.size),
        key=lambda name: (-round(mean(scores[name]), DECIMALS), name),
    )
    if not ranked:
        return TieSet("", (), (), unscored, {}, {}, "", "nothing has a score")
    best, *others = ranked
    p = {name: welch(scores[best], scores[name]).p for name in others}
    adjusted = holm(np.array(list(p.values())))
    p_holm = dict(zip(others, map(float, adjusted), strict=True))
    members = [best, *(name for name in others if not p_holm[name] < ALPHA)]
    recommended, decided_by = _recommended(members, scores, failures=failures, seconds=seconds)
    return TieSet(
        best=best,
        members=tuple(members),
        untested=tuple(name for name in members[1:] if np.isnan(p_holm[name])),
        unscored=unscored,
        p=p,
        p_holm=p_holm,
        recommended=recommended,
        decided_by=decided_by,
    )


def _recommended(
    members: list[str],
    scores: Mapping[str, FloatArray],
    *,
    failures: Mapping[str, int],
    seconds: Mapping[str, float],
) -> tuple[str, str]:
    if len(members) == 1:
        return members[0], "higher mean"
    used = []
    rate = {name: failures[name] / scores[name].size for name in members}
    safest = min(members, key=lambda name: rate[name])
    left = []
    for name in members:
        runs = min(scores[name].size, scores[safest].size)
        if round((rate[name] - rate[safest]) * runs, DECIMALS) < 1:
            left.append(name)
    if len(left) < len(members):
        used.append("lower failure rate")
    for words, cost in (
        ("smaller sd", {name: sd(scores[name]) for name in left}),
        ("lower cost", {name: seconds[name] for name in left}),
    ):
        known = {name: round(cost[name], DECIMALS) for name in left if not np.isnan(cost[name])}
        cheapest = [name for name in left if name in known and known[name] == min(known.values())]
        if len(left) > 1 and cheapest and len(cheapest) < len(left):
            left = cheapest
            used.append(words)
    if len(left) > 1:
        used.append("name")
    return min(left), ", then ".join(used)


def probability_best(
    scores: Mapping[str, FloatArray], rng: np.random.Generator
) -> dict[str, float]:
    """How often each configuration has the highest mean when the runs are resampled.

    Not the probability that it is the best: with few runs, resampling knows little.

    Args:
        scores: By configuration; higher is better, each shape (n,), no NaN.
        rng: Draws the resamples, separately for each configuration.

    Returns:
        Shares that add up to 1, ties split equally; NaN for configurations below two runs, which
        are left out.

    Source: Efron & Tibshirani 1993. Differs: deviations are widened by sqrt(n / (n - 1)), which
        the bootstrap lacks at small n.
    """
    names = sorted(name for name, x in scores.items() if x.size > 1)
    shares = dict.fromkeys(scores, np.nan)
    if not names:
        return shares
    means = np.empty((N_BOOT, len(names)))
    for column, name in enumerate(names):
        x = scores[name]
        drawn = x[rng.integers(x.size, size=(N_BOOT, x.size))].mean(axis=1)
        means[:, column] = mean(x) + (drawn - mean(x)) * np.sqrt(x.size / (x.size - 1))
    means = np.round(means, DECIMALS)
    first = means == means.max(axis=1, keepdims=True)  # (N_BOOT, n_configurations)
    found = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares | dict(zip(names, map(float, found), strict=True))
