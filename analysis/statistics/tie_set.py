"""Tie sets: the configurations that may be the best, and the one to use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.statistics.common import DECIMALS, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.rank_uncertainty import significant_order

Preference = Literal["stable", "fast", "score"]


@dataclass(frozen=True)
class TieSet:
    """The configurations that may be the best.

    Attributes:
        best: Configuration with the highest mean; empty if none has a score.
        members: Those that no other is significantly better than, by decreasing mean, then name;
            the first is `best`.
        untested: Members that could not be tested against the best.
        unscored: Configurations without a score, neither members nor excluded.
        recommended: One member, selected by the secondary criteria.
        decided_by: The criteria that were needed, such as `lower failure rate, then smaller sd`.
    """

    best: str
    members: tuple[str, ...]
    untested: tuple[str, ...]
    unscored: tuple[str, ...]
    recommended: str
    decided_by: str


def tie_set(
    scores: Mapping[str, FloatArray],
    *,
    failures: Mapping[str, int],
    seconds: Mapping[str, float],
    prefer: Preference = "stable",
) -> TieSet:
    """Find the best configuration, its tie set, and a recommended member.

    Args:
        scores: By configuration, on the split used for selection; higher is better, each shape
            (n,), no NaN, failed runs at their floor.
        failures: By configuration, the number of those runs that failed.
        seconds: By configuration, the seconds per run; NaN if unknown.
        prefer: Criterion for the recommendation; it does not change the members.

    Returns:
        The tie set, which holds all truly best configurations with a probability of at least 95%.
        `stable` recommends a member by, in this order, lower failure rate (if the difference is at
        least one run), smaller standard deviation, lower cost, and name. `fast` puts cost before
        standard deviation; `score` takes the highest mean.

    Source: subset selection by simultaneous tests of all pairs, see `significant_order`; compare
        Hsu 1984, whose tests against the best hold one given best, not all that are equally good.
        Tests of the highest mean against the others alone are too liberal, since that mean was
        selected from the same runs.
    """
    unscored = tuple(sorted(name for name, x in scores.items() if x.size == 0))
    ranked = sorted(
        (name for name, x in scores.items() if x.size),
        key=lambda name: (-round(mean(scores[name]), DECIMALS), name),
    )
    if not ranked:
        return TieSet("", (), (), unscored, "", "nothing has a score")
    names, better, unknown = significant_order(scores)
    beaten = {name: better[:, i].any() for i, name in enumerate(names)}
    members = [name for name in ranked if not beaten[name]]
    best = members[0]
    doubtful = {name: unknown[names.index(best), i] for i, name in enumerate(names)}
    recommended, decided_by = best, "higher mean"
    if prefer != "score" and len(members) > 1:
        recommended, decided_by = _recommended(
            members, scores, failures=failures, seconds=seconds, fast=prefer == "fast"
        )
    return TieSet(
        best=best,
        members=tuple(members),
        untested=tuple(name for name in members[1:] if doubtful[name]),
        unscored=unscored,
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
