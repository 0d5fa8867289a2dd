"""Whether one technique can be advised for a whole group of tasks and models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.across_tasks.chosen import chosen, unfit
from analysis.across_tasks.pools import View
from analysis.frames.runs import BASELINE, Row, blocks, checked, final, scores
from analysis.per_task.best_strategy import ROPE
from analysis.per_task.recommend import Confidence, confidence
from analysis.rendering.builder import Columns, RowTuple, table_of
from analysis.rendering.formatting import interval_text, p_text, score_text
from analysis.rendering.table import Table
from analysis.statistics.common import ALPHA, DECIMALS, ENDS, BoolArray, FloatArray, stream
from analysis.statistics.location import welch
from analysis.statistics.multiplicity import holm
from analysis.statistics.rank_uncertainty import resample, widened
from analysis.statistics.tie_set import tie_set

ENOUGH = 3  # tasks and models below which nothing is said of a group
SHARE = 0.8  # of them in which a technique must be level with the best
RESAMPLES = 1_000


@dataclass(frozen=True)
class _Block:
    """A task and model in one view of its failed runs; arrays by technique.

    Attributes:
        name: `task, model`.
        groups: Its group in each dimension; absent where it is not known.
        techniques: Those with two scores on dev and on test, in order of name.
        tied: Which of them dev does not tell from the best, shape (n_techniques,).
        dev: Dev means as they are, then resampled; shape (1 + RESAMPLES, n_techniques).
        test: Test means, likewise.
        lost: Which of them are significantly worse than the baseline on test, by more than ROPE.
    """

    name: str
    groups: dict[str, str]
    techniques: tuple[str, ...]
    tied: BoolArray
    dev: FloatArray
    test: FloatArray
    lost: BoolArray


def by_group(runs: pd.DataFrame) -> pd.DataFrame:
    """One technique per group of tasks and models where the runs support one.

    Groups are all, and those by the model's family, size (small below 50 million parameters, large
    from 200 million), both, and domain, and by the task's training rows and type; a way of grouping
    that makes one group, or the same groups as another, is left out. A technique enters each task
    and model with the configuration recommended for it there on dev.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per group: dimension, group, blocks (tasks and models in it), technique (what the
        rule names, or empty), level (all that are best or level with the best on dev in 80 % of the
        blocks, joined by "; "), reason (why none is named), and of the technique, or else of the
        one with the best average rank (`leader`): rank (average, on dev), tied (blocks in which it
        is best or level), difference to the baseline on test with the ends of its 95 % interval,
        p_holm, worst (lowest difference of a block) and in which block, confidence, top (share of
        resamplings in which it has the best average rank); and interaction_p of the dimension. Of
        tasks whose scores are no shares nothing is said.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.

    Source: the rule: at least three blocks; best or level with the best on dev in 80 % of them; a
        gain over the baseline on test whose two-level bootstrap interval (blocks, then seeds)
        excludes 0, Holm-adjusted over groups and techniques; no block with a significant loss of
        more than half a point. Confidence: `strong` if that also holds without failed runs and the
        same name is on top in 95 % of resamplings of the seeds, `moderate` from 80 %, otherwise
        `weak`. Differs: p-values are of Student's t with a degree of freedom per block but one,
        since few blocks say little of others. interaction_p: permutation of the blocks' groups, on
        the differences of all techniques.
    """
    runs = final(checked(runs))
    runs = runs[~runs["task"].isin(list(unfit(runs)))]
    if runs.empty:
        return pd.DataFrame(columns=["dimension", "group", "blocks", "technique", "level"])
    runs = chosen(runs, ("model", "technique"))
    whole, clean = (list(_measured(runs, view)) for view in ("all_floor", "excluded"))
    groups = list(_groups(whole))
    claims, sound = (_claims(measured, groups) for measured in (whole, clean))
    interactions = {dimension: _interaction(whole, dimension) for dimension, _, _ in groups}
    return pd.DataFrame(
        [
            {"dimension": dimension, "group": group, "blocks": len(members)}
            | _verdict([row for row in claims if row["number"] == i], sound, len(members))
            | {"interaction_p": interactions[dimension]}
            for i, (dimension, group, members) in enumerate(groups)
        ]
    )


def _measured(runs: pd.DataFrame, view: View) -> Iterator[_Block]:
    for task, model, block in blocks(runs):
        cells = {str(name): cell for name, cell in block.groupby("technique")}
        both = {
            name: tuple(getattr(scores(cell, split), view) for split in ("dev", "test"))
            for name, cell in cells.items()
        }
        names = tuple(sorted(name for name, each in both.items() if min(x.size for x in each) > 1))
        dev, test = ({name: both[name][i] for name in names} for i in (0, 1))
        nothing = dict.fromkeys(names, 0)
        members = tie_set(dev, failures=nothing, seconds=nothing).members
        base = test.get(BASELINE, np.empty(0))
        gaps = [welch(test[name], base) for name in names]
        yield _Block(
            name=f"{task}, {model}",
            groups=_labels(block.iloc[0]),
            techniques=names,
            tied=np.array([name in members for name in names], dtype=bool),
            dev=_means(dev, (task, model, view, "dev")),
            test=_means(test, (task, model, view, "test")),
            lost=np.array([g.p < ALPHA and g.estimate < -ROPE for g in gaps], dtype=bool),
        )


def _means(parts: dict[str, FloatArray], key: tuple[str, ...]) -> FloatArray:
    found = np.empty((1 + RESAMPLES, len(parts)))
    for column, (name, x) in enumerate(parts.items()):
        drawn = x[resample(x.size, stream(*key, name, "groups"), RESAMPLES)].mean(axis=1)
        found[:, column] = [x.mean(), *widened(drawn, x.mean(), x.size)]
    return np.round(found, DECIMALS)


def _labels(run: pd.Series) -> dict[str, str]:
    """The groups of a block, by dimension, from any of its runs."""
    family, domain, kind = (
        "" if pd.isna(run[name]) else str(run[name]) for name in ("family", "domain", "task_type")
    )
    size = _band(run["parameters"], (50e6, 200e6), ("small", "base", "large"))
    rows = ("fewer than 1,000", "1,000 to 10,000", "more than 10,000")
    found = {"all": "all", "family": family, "size": size}
    found |= {"family and size": f"{family} {size}" if family and size else "", "domain": domain}
    found |= {"data": _band(run["train_rows"], (1_000, 10_001), rows), "task type": kind}
    return {dimension: group for dimension, group in found.items() if group}


def _band(value: Any, edges: tuple[float, float], names: tuple[str, str, str]) -> str:
    return "" if pd.isna(value) else names[int(np.searchsorted(edges, float(value), "right"))]


def _groups(measured: Sequence[_Block]) -> Iterator[tuple[str, str, list[int]]]:
    """Dimension, group, and which blocks are in it; nothing twice."""
    seen = []
    for dimension in dict.fromkeys(name for block in measured for name in block.groups):
        parts: dict[str, list[int]] = {}
        for i, block in enumerate(measured):
            if dimension in block.groups:
                parts.setdefault(block.groups[dimension], []).append(i)
        makes = sorted(parts.values())
        if (dimension == "all" or len(parts) > 1) and makes not in seen:
            seen.append(makes)
            yield from ((dimension, group, members) for group, members in sorted(parts.items()))


def _claims(measured: Sequence[_Block], groups: Sequence[tuple[str, str, list[int]]]) -> list[Row]:
    """What the rule asks, for every group and every technique that all its blocks have."""
    rows: list[Row] = []
    for number, (dimension, group, members) in enumerate(groups):
        own = [measured[i] for i in members]
        names = sorted(set.intersection(*(set(block.techniques) for block in own)))
        if len(own) < ENOUGH or BASELINE not in names:
            continue
        columns = [[block.techniques.index(name) for name in names] for block in own]
        pairs = list(zip(own, columns, strict=True))
        dev = np.stack([block.dev[:, at] for block, at in pairs])  # (block, draw, technique)
        test = np.stack([block.test[:, at] for block, at in pairs])
        gaps = test - test[:, :, [names.index(BASELINE)]]
        ranks = stats.rankdata(-dev, axis=2).mean(axis=0)  # (draw, technique)
        first = ranks[1:] == ranks[1:].min(axis=1, keepdims=True)
        top = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
        tied = np.stack([block.tied[at] for block, at in pairs]).sum(axis=0)
        lost = np.stack([block.lost[at] for block, at in pairs])
        low, high, p = _two_level(gaps, stream("groups", dimension, group))
        for j, name in enumerate(names):
            worst = int(np.argmin(gaps[:, 0, j]))
            row: Row = {"number": number, "leader": name, "rank": float(ranks[0, j])}
            row |= {"tied": int(tied[j]), "often": tied[j] >= SHARE * len(own)}
            row |= {"difference": float(gaps[:, 0, j].mean()), "low": low[j], "high": high[j]}
            row |= {"p": np.nan if name == BASELINE else p[j], "lost": bool(lost[:, j].any())}
            row |= {"worst": float(gaps[worst, 0, j]), "worst_block": own[worst].name}
            rows.append(row | {"top": float(top[j])})
    adjusted = holm(np.array([row["p"] for row in rows]))
    for row, p_holm in zip(rows, adjusted, strict=True):
        gains = p_holm < ALPHA and row["low"] > 0
        row |= {"p_holm": float(p_holm), "passes": bool(row["often"] and gains and not row["lost"])}
    return rows


def _two_level(
    gaps: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Interval of the mean over blocks, and p-value that it is 0; each by technique.

    Args:
        gaps: As they are, then resampled over seeds; shape (n_blocks, 1 + RESAMPLES, n_techniques).
        rng: Draws blocks, and for each of them a resampling of its seeds.
    """
    count = len(gaps)
    which = rng.integers(count, size=(RESAMPLES, count))
    draw = 1 + rng.integers(RESAMPLES, size=(RESAMPLES, count))
    centre = gaps[:, 0].mean(axis=0)
    means = widened(gaps[which, draw].mean(axis=1), centre, count)  # (RESAMPLES, technique)
    low, high = np.quantile(means, ENDS, axis=0)
    error = means.std(axis=0, ddof=1)
    t = np.divide(np.abs(centre), error, out=np.full(len(error), np.nan), where=error > 0)
    return low, high, np.asarray(2 * stats.t.sf(t, count - 1))


def _verdict(rows: list[Row], sound: list[Row], count: int) -> Row:
    """What is said of one group, from the claims on it with failed runs and without."""
    if not rows:
        few = f"fewer than {ENOUGH} tasks and models"
        reason = few if count < ENOUGH else f"{BASELINE} was not run in all of them"
        return {"technique": "", "level": "", "leader": "", "reason": reason, "confidence": ""}
    ranked = sorted(rows, key=lambda row: (round(row["rank"], DECIMALS), row["leader"]))
    passing = [row for row in ranked if row["passes"]]
    best = (passing or ranked)[0]
    again = [s for s in sound if s["number"] == best["number"] and s["leader"] == best["leader"]]
    named: Row = {"technique": "", "reason": _lacking(best), "confidence": ""}
    if passing:
        sure: Confidence = confidence(best["top"], holds=any(s["passes"] for s in again))
        named = {"technique": best["leader"], "reason": "", "confidence": sure}
    shown = ["leader", "rank", "tied", "difference", "low", "high", "p_holm", "worst"]
    shown += ["worst_block", "top"]
    level = "; ".join(row["leader"] for row in ranked if row["often"])
    return {**named, "level": level, **{name: best[name] for name in shown}}


def _lacking(row: Row) -> str:
    """What keeps the leader from being advised."""
    if row["leader"] == BASELINE:
        return f"none ranks above {BASELINE}"
    if not row["often"]:
        return f"{row['leader']} is too often worse than the best"
    if row["lost"]:
        return f"{row['leader']} loses in {row['worst_block']}"
    return f"the gain of {row['leader']} over {BASELINE} is not supported"


def _interaction(measured: Sequence[_Block], dimension: str) -> float:
    """P-value that techniques do alike in all groups of a dimension; NaN where none is made."""
    own = [block for block in measured if dimension in block.groups]
    labels = np.array([block.groups[dimension] for block in own])
    names = sorted(set.intersection(*(set(block.techniques) for block in own)))
    if BASELINE not in names or len(names) < 2 or len(own) < 2 * ENOUGH or len({*labels}) < 2:
        return np.nan
    means = np.stack([block.test[0, [block.techniques.index(n) for n in names]] for block in own])
    gaps = means - means[:, [names.index(BASELINE)]]
    gaps = gaps - gaps.mean(axis=0)
    member = (labels == np.unique(labels)[:, None]) * 1.0  # (group, block)
    rng = stream("interaction", dimension)
    order = rng.permuted(np.tile(np.arange(len(own)), (RESAMPLES, 1)), axis=1)
    drawn = gaps[np.concatenate([np.arange(len(own))[None], order])]  # (1 + draw, block, technique)
    sums = member @ drawn  # (1 + draw, group, technique)
    between = (sums**2 / member.sum(axis=1)[:, None]).sum(axis=(1, 2))
    as_large = np.round(between[1:] - between[0], DECIMALS) >= 0
    return float((1 + as_large.sum()) / (1 + RESAMPLES))


def sentences(found: pd.DataFrame) -> list[str]:
    """What is advised for each group, or that nothing is; of the rows of `by_group`."""
    return [_sentence(row) for row in found.itertuples()]


_WHOM: dict[str, Callable[[str], str]] = {
    "all": lambda group: "Over all tasks and models",
    "family": lambda group: f"For {group} models",
    "size": lambda group: f"For models of {group} size",
    "family and size": lambda group: f"For {group}-size models",
    "domain": lambda group: f"For models of the {group} domain",
    "data": lambda group: f"With {group} training rows",
    "task type": lambda group: f"For {group}",
}


def _sentence(row: RowTuple) -> str:
    whom = _WHOM[row.dimension](row.group)
    if not row.technique:
        level = f"; level: {row.level.replace('; ', ', ')}" if row.level else ""
        return f"{whom} no single strategy{level} ({row.reason})."
    gain = score_text(row.difference, 100)
    return (
        f"{whom} use {row.technique}: best or level with the best on dev in {row.tied:.0f} of "
        f"{row.blocks} tasks and models, and {gain} points "
        f"{interval_text(row.low, row.high, scale=100)} above {BASELINE} on test "
        f"({row.confidence} confidence)."
    )


def groups_table(found: pd.DataFrame) -> Table:
    """Advice by group, as `by_group` gives it."""
    columns: Columns = {
        "Group": lambda r: _WHOM[r.dimension](r.group),
        "Tasks and models": lambda r: f"{r.blocks}",
        "Use": lambda r: r.technique or f"no single strategy: {r.reason}",
        "Confidence": lambda r: r.confidence or "–",
        "Best or level": lambda r: r.level.replace("; ", ", ") or "–",
        "Leader": lambda r: r.leader or "–",
        "Rank": lambda r: score_text(r.rank, 1) if r.leader else "–",
        f"Over {BASELINE}": lambda r: (
            f"{score_text(r.difference, 100, sign='+')} {interval_text(r.low, r.high, scale=100)}"
            if r.leader and r.leader != BASELINE
            else "–"
        ),
        "p": lambda r: p_text(r.p_holm) if r.leader else "–",
        "Worst": lambda r: score_text(r.worst, 100, sign="+") if r.leader else "–",
        "p groups differ": lambda r: p_text(r.interaction_p),
    }
    notes = [
        "Techniques at the configurations recommended for them on dev, failed runs included; n is "
        "the number of tasks and models. Best or level: on dev in at least 80% of these.",
        f"Use: such a technique whose mean gain over {BASELINE} on test (in points, 95% interval "
        "over tasks and seeds) is supported (p, Holm-adjusted over groups and techniques) and "
        "which is nowhere significantly worse by more than half a point. Confidence: strong if "
        "that holds without failed runs too and 95% of resamplings of the seeds rank it first, "
        "moderate from 80%, else weak.",
        "Rank (average on dev), gain and worst are of the technique to use or, where there is "
        "none, of the leader. p groups differ: do techniques gain differently in the groups of "
        "its kind? By permuting the groups.",
    ]
    details = ["Leader", "Rank", "Worst", "p groups differ"]
    return table_of("groups", "By group", found, columns, notes=notes, details=details)
