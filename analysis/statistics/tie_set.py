"""The best of several configurations, and which others may be as good."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.statistics.common import ALPHA, DECIMALS, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.location import welch
from analysis.statistics.multiplicity import holm

Preference = Literal["stable", "fast", "score"]


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
    prefer: Preference = "stable",
) -> TieSet:
    """The best configuration, all that cannot be told from it, and one of them to use.

    Args:
        scores: By configuration, on the split that may choose; higher is better, each shape (n,),
            no NaN, failed runs at their floor.
        failures: By configuration, how many of those runs failed.
        seconds: By configuration, what a run costs; NaN if unknown.
        prefer: What decides among the members, which this does not change.

    Returns:
        The tie set. Among its members decide, in this order: lower failure rate (if the difference
        is a run at least), smaller standard deviation, lower cost, name. `fast` asks for the cost
        before the standard deviation, `score` for the highest mean alone.

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
    recommended, decided_by = best, "higher mean"
    if prefer != "score" and len(members) > 1:
        recommended, decided_by = _recommended(
            members, scores, failures=failures, seconds=seconds, fast=prefer == "fast"
        )
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
    fast: bool,
) -> tuple[str, str]:
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
    calmer = ("smaller sd", {name: sd(scores[name]) for name in left})
    cheaper = ("lower cost", {name: seconds[name] for name in left})
    for words, cost in (cheaper, calmer) if fast else (calmer, cheaper):
        known = {name: round(cost[name], DECIMALS) for name in left if not np.isnan(cost[name])}
        cheapest = [name for name in left if name in known and known[name] == min(known.values())]
        if len(left) > 1 and cheapest and len(cheapest) < len(left):
            left = cheapest
            used.append(words)
    if len(left) > 1:
        used.append("name")
    return min(left), ", then ".join(used)
