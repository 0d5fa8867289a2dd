"""Tie sets: the configurations that may be the best, and the one to use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from analysis.statistics.common import ALPHA, DECIMALS, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.multiplicity import holm
from analysis.statistics.rank_uncertainty import significant_order
from analysis.statistics.spread import ENOUGH_FOR_SPREAD, spread_test

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
        decided_by: The criteria needed, such as `lower failure rate, then higher dev mean`.
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
        least one run), smaller standard deviation, higher mean, lower cost, and name. The standard
        deviation counts only where all that are left have `ENOUGH_FOR_SPREAD` seeds, and against
        those that vary significantly more (Brown-Forsythe tests of all pairs, Holm-adjusted).
        `fast` puts cost before standard deviation; `score` takes the highest mean.

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
    recommended, decided_by = best, "higher dev mean"
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
    safer = ("lower failure rate", lambda left: _safest(left, scores, failures))
    steadier = ("smaller sd", lambda left: _steadiest(left, scores))
    higher = ("higher dev mean", lambda left: _least(left, lambda name: -mean(scores[name])))
    cheaper = ("lower cost", lambda left: _least(left, lambda name: seconds[name]))
    steps: list[tuple[str, Callable[[list[str]], list[str]]]] = [safer]
    steps += [cheaper, steadier, higher] if fast else [steadier, higher, cheaper]
    left, used = members, []
    for words, step in steps:
        if len(kept := step(left)) < len(left):
            left = kept
            used.append(words)
    if len(left) > 1:
        used.append("name")
    return min(left), ", then ".join(used)


def _safest(
    names: list[str], scores: Mapping[str, FloatArray], failures: Mapping[str, int]
) -> list[str]:
    """Those whose failure rate is less than one run above the lowest."""
    rate = {name: failures[name] / scores[name].size for name in names}
    safest = min(names, key=lambda name: rate[name])
    runs = {name: min(scores[name].size, scores[safest].size) for name in names}
    return [name for name in names if round((rate[name] - rate[safest]) * runs[name], DECIMALS) < 1]


def _steadiest(names: list[str], scores: Mapping[str, FloatArray]) -> list[str]:
    """Those that vary significantly more than no other; all of them if any has too few seeds."""
    if min(scores[name].size for name in names) < ENOUGH_FOR_SPREAD:
        return names
    pairs = [sorted(pair, key=lambda name: sd(scores[name])) for pair in combinations(names, 2)]
    p = holm(np.array([spread_test(scores[calm], scores[other]).p for calm, other in pairs]))
    beaten = {other for (_, other), value in zip(pairs, p, strict=True) if value < ALPHA}
    return [name for name in names if name not in beaten]


def _least(names: list[str], cost: Callable[[str], float]) -> list[str]:
    """Those of the lowest known cost; all of them if none is known."""
    costs = {name: round(cost(name), DECIMALS) for name in names if not np.isnan(cost(name))}
    return [name for name in costs if costs[name] == min(costs.values())] or names
