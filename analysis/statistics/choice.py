"""The best of several configurations, and which others may be as good."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.statistics.common import ALPHA, DECIMALS, N_BOOT, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.location import welch
from analysis.statistics.multiplicity import holm


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
