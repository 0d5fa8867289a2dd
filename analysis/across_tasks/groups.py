"""Advice for groups of tasks and models: one technique per group, where supported."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from analysis.across_tasks.chosen import chosen, unfit
from analysis.across_tasks.pools import View
from analysis.frames.runs import BASELINE, Row, blocks, checked, final, scores
from analysis.per_task.best_strategy import ROPE
from analysis.per_task.recommend import FEWEST, Confidence, confidence
from analysis.rendering.builder import Columns, RowTuple, table_of
from analysis.rendering.formatting import interval_text, p_text, score_text
from analysis.rendering.table import Table
from analysis.statistics.common import ALPHA, DECIMALS, ENDS, BoolArray, FloatArray, stream
from analysis.statistics.location import welch
from analysis.statistics.multiplicity import holm
from analysis.statistics.rank_uncertainty import resample, widened
from analysis.statistics.tie_set import tie_set

ENOUGH = 3  # tasks and models that a group needs
SHARE = 0.8  # of them in which a technique must be best or tied with the best
RESAMPLES = 1_000


@dataclass(frozen=True)
class _Block:
    """A task and model, with failed runs included or left out; arrays by technique.

    Attributes:
        name: `task, model`.
        groups: Its group by dimension; unknown ones are absent.
        techniques: Those with at least two scores on dev and on test, sorted by name.
        tied: Which of them are best or tied with the best on dev, shape (n_techniques,).
        dev: Dev means, observed, then resampled; shape (1 + RESAMPLES, n_techniques).
        test: Test means, likewise.
        lost: Which of them are significantly worse than the baseline on test, by more than ROPE.
        solid: Which of them have no failed run, where all have at least `FEWEST` seeds.
    """

    name: str
    groups: dict[str, str]
    techniques: tuple[str, ...]
    tied: BoolArray
    dev: FloatArray
    test: FloatArray
    lost: BoolArray
    solid: BoolArray


def by_group(runs: pd.DataFrame) -> pd.DataFrame:
    """Recommend one technique per group of tasks and models, where the runs support one.

    Groups are formed over all tasks and models, by the model's family, size (small below 50 million
    parameters, large from 200 million), family and size, and domain, and by the task's training
    rows and type. A dimension with a single group, or with the same groups as an earlier one, is
    left out. A technique enters each task and model with its configuration recommended on dev.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per group: dimension, group, blocks (number of tasks and models), technique (the
        one recommended, or empty), level (all that are best or tied with the best on dev in 80% of
        the blocks, joined by "; "), reason (why none is recommended), and for the technique, or
        else for the one with the best average rank (`leader`): rank (average, on dev), tied (number
        of blocks in which it is best or tied), difference to the baseline on test with its 95%
        interval (low, high), p_holm, worst (smallest difference of a block) and worst_block,
        confidence, top (share of resamples in which it has the best average rank); and
        interaction_p of the dimension. Tasks whose scores are not shares are left out.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Source: the rule: at least three blocks; best or tied with the best on dev in 80% of them; a
        gain over the baseline on test whose two-level bootstrap interval (blocks, then seeds)
        excludes 0, Holm-adjusted over groups and techniques; no block with a significant loss of
        more than half a point. Confidence: `strong` if that also holds without failed runs and the
        same technique ranks first in 95% of resamples of the seeds, `moderate` from 80%,
        otherwise `weak`. Differs: p-values use Student's t with one degree of freedom fewer than
        blocks, since the bootstrap is too narrow for few blocks. interaction_p: permutation test
        of the labels of all groups with at least three blocks; see `interaction_p`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(technique=names, configuration=names, model="any")
        >>> advice = by_group(runs.assign(dev=runs["test"]))
        >>> advice[["group", "blocks", "technique", "leader", "difference"]].round(3)
          group  blocks technique                     leader  difference
        0   all       3            microsoft_deberta_v3_base       0.125
    """
    runs = final(checked(runs))
    runs = runs[~runs["task"].isin(list(unfit(runs)))]
    runs = chosen(runs, ("model", "technique"))
    if runs.empty:
        return pd.DataFrame(columns=["dimension", "group", "blocks", "technique", "level"])
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
        zeros = dict.fromkeys(names, 0)
        members = tie_set(dev, failures=zeros, seconds=zeros).members
        base = test.get(BASELINE, np.empty(0))
        gaps = [welch(test[name], base) for name in names]
        own = [scores(cells[name], "dev") for name in names]
        enough = all(cell.finished >= FEWEST for cell in own)
        yield _Block(
            name=f"{task}, {model}",
            groups=_labels(block.iloc[0]),
            techniques=names,
            tied=np.array([name in members for name in names], dtype=bool),
            dev=_means(dev, (task, model, view, "dev")),
            test=_means(test, (task, model, view, "test")),
            lost=np.array([g.p < ALPHA and g.estimate < -ROPE for g in gaps], dtype=bool),
            solid=np.array([enough and not cell.failed.any() for cell in own], dtype=bool),
        )


def _means(parts: dict[str, FloatArray], key: tuple[str, ...]) -> FloatArray:
    means = np.empty((1 + RESAMPLES, len(parts)))
    for column, (name, x) in enumerate(parts.items()):
        drawn = x[resample(x.size, stream(*key, name, "groups"), RESAMPLES)].mean(axis=1)
        means[:, column] = [x.mean(), *widened(drawn, x.mean(), x.size)]
    return np.round(means, DECIMALS)


def _labels(run: pd.Series) -> dict[str, str]:
    """The groups of a block by dimension, read from one of its runs."""
    family, domain, kind = (
        "" if pd.isna(run[name]) else str(run[name]) for name in ("family", "domain", "task_type")
    )
    size = _band(run["parameters"], (50e6, 200e6), ("small", "base", "large"))
    rows = ("fewer than 1,000", "1,000 to 10,000", "more than 10,000")
    groups = {"all": "all", "family": family, "size": size}
    groups |= {"family and size": f"{family} {size}" if family and size else "", "domain": domain}
    groups |= {"data": _band(run["train_rows"], (1_000, 10_001), rows), "task type": kind}
    return {dimension: group for dimension, group in groups.items() if group}


def _band(value: Any, edges: tuple[float, float], names: tuple[str, str, str]) -> str:
    return "" if pd.isna(value) else names[int(np.searchsorted(edges, float(value), "right"))]


def _groups(measured: Sequence[_Block]) -> Iterator[tuple[str, str, list[int]]]:
    """Dimension, group and indices of its blocks; no grouping of the blocks occurs twice."""
    earlier = []
    for dimension in dict.fromkeys(name for block in measured for name in block.groups):
        parts: dict[str, list[int]] = {}
        for i, block in enumerate(measured):
            if dimension in block.groups:
                parts.setdefault(block.groups[dimension], []).append(i)
        grouping = sorted(parts.values())
        if (dimension == "all" or len(parts) > 1) and grouping not in earlier:
            earlier.append(grouping)
            yield from ((dimension, group, members) for group, members in sorted(parts.items()))


def _claims(measured: Sequence[_Block], groups: Sequence[tuple[str, str, list[int]]]) -> list[Row]:
    """The criteria of the rule for every group and every technique run in all its blocks."""
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
        solid = np.stack([block.solid[at] for block, at in pairs])
        low, high, p = _two_level(gaps, stream("groups", dimension, group))
        for j, name in enumerate(names):
            worst = int(np.argmin(gaps[:, 0, j]))
            row: Row = {"number": number, "leader": name, "rank": float(ranks[0, j])}
            row |= {"tied": int(tied[j]), "often": tied[j] >= SHARE * len(own)}
            row |= {"difference": float(gaps[:, 0, j].mean()), "low": low[j], "high": high[j]}
            row |= {"p": np.nan if name == BASELINE else p[j], "lost": bool(lost[:, j].any())}
            row |= {"solid": bool(solid[:, j].all())}
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
    """The recommendation for one group, from its claims with and without failed runs."""
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
        holds = any(s["passes"] for s in again)
        sure: Confidence = confidence(best["top"], holds=holds, solid=best["solid"])
        named = {"technique": best["leader"], "reason": "", "confidence": sure}
    shown = ["leader", "rank", "tied", "difference", "low", "high", "p_holm", "worst"]
    shown += ["worst_block", "top"]
    level = "; ".join(row["leader"] for row in ranked if row["often"])
    return {**named, "level": level, **{name: best[name] for name in shown}}


def _lacking(row: Row) -> str:
    """Why the leader is not recommended."""
    if row["leader"] == BASELINE:
        return f"no technique ranks above {BASELINE}"
    if not row["often"]:
        tied = f"best or tied with the best in fewer than {SHARE:.0%} of the tasks and models"
        return f"{row['leader']} is {tied}"
    if row["lost"]:
        return f"{row['leader']} is significantly worse in {row['worst_block']}"
    return f"the gain of {row['leader']} over {BASELINE} is not supported"


def _interaction(measured: Sequence[_Block], dimension: str) -> float:
    """P-value of no technique-by-group interaction in a dimension; NaN if it cannot be tested."""
    own = [block for block in measured if dimension in block.groups]
    labels = np.array([block.groups[dimension] for block in own])
    sizes = {name: int((labels == name).sum()) for name in set(labels)}
    own = [block for block in own if sizes[block.groups[dimension]] >= ENOUGH]
    labels = np.array([block.groups[dimension] for block in own])
    if len({*labels}) < 2:
        return np.nan
    names = sorted(set.intersection(*(set(block.techniques) for block in own)))
    if BASELINE not in names or len(names) < 2:
        return np.nan
    means = np.stack([block.test[0, [block.techniques.index(n) for n in names]] for block in own])
    gaps = means - means[:, [names.index(BASELINE)]]
    return interaction_p(gaps, labels, stream("interaction", dimension))


def interaction_p(gaps: FloatArray, labels: npt.NDArray[Any], rng: np.random.Generator) -> float:
    """P-value of equal mean gains in all groups, by permutation of the labels.

    Args:
        gaps: Gain over the baseline, shape (n_blocks, n_techniques).
        labels: Group of each block, each with at least two blocks, shape (n_blocks,).
        rng: Generator of the permutations.

    Returns:
        NaN if each technique has the same gain in all blocks. At a level of 5%, up to 13% of equal
        groups differ where one of three to five blocks varies three times as much as the others.

    Source: Brown & Forsythe 1974, the statistic F* of means with unequal variances (Welch's t² for
        two groups), numerator and denominator summed over techniques; permuted as Chung & Romano
        2013. Differences of means alone would reject where a small group varies more.
    """
    gaps = gaps - gaps.mean(axis=0)
    if not np.round(gaps, DECIMALS).any():
        return np.nan
    gaps = gaps / np.abs(gaps).max()
    member = (labels == np.unique(labels)[:, None]) * 1.0  # (group, block)
    size = member.sum(axis=1)[:, None]
    order = rng.permuted(np.tile(np.arange(len(gaps)), (RESAMPLES, 1)), axis=1)
    drawn = gaps[
        np.concatenate([np.arange(len(gaps))[None], order])
    ]  # (1 + draw, block, technique)
    between = ((member @ drawn) ** 2 / size).sum(axis=(1, 2))
    squares = (member @ drawn**2 - (member @ drawn) ** 2 / size).clip(min=0)  # within groups
    within = (squares / (size - 1) * (1 - size / len(gaps))).sum(axis=(1, 2))
    found = between / (between + within)  # increases with F*, and is 1 where nothing varies within
    as_large = np.round(found[1:] - found[0], DECIMALS) >= 0
    return float((1 + as_large.sum()) / (1 + RESAMPLES))


def sentences(frame: pd.DataFrame) -> list[str]:
    """A sentence of advice per row of `by_group`."""
    return [_sentence(row) for row in frame.itertuples()]


_SCOPE: dict[str, Callable[[str], str]] = {
    "all": lambda group: "Over all tasks and models",
    "family": lambda group: f"For {group} models",
    "size": lambda group: f"For models of {group} size",
    "family and size": lambda group: f"For {group}-size models",
    "domain": lambda group: f"For models of the {group} domain",
    "data": lambda group: f"With {group} training rows",
    "task type": lambda group: f"For {group}",
}


def _sentence(row: RowTuple) -> str:
    scope = _SCOPE[row.dimension](row.group)
    if not row.technique:
        tied = f"; tied: {row.level.replace('; ', ', ')}" if row.level else ""
        return f"{scope}: no single recommendation{tied} ({row.reason})."
    gain = score_text(row.difference, 100)
    return (
        f"{scope} use {row.technique}: best or tied with the best on dev in {row.tied:.0f} of "
        f"{row.blocks} tasks and models, and {gain} points "
        f"{interval_text(row.low, row.high, scale=100)} above {BASELINE} on test "
        f"({row.confidence} confidence)."
    )


def groups_table(frame: pd.DataFrame) -> Table:
    """The table of `by_group`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> groups_table(by_group(runs.assign(dev=runs["test"]))).body[0][:3]
        ('Over all tasks and models', '12', 'none: no technique ranks above Standard')
    """
    columns: Columns = {
        "Group": lambda r: _SCOPE[r.dimension](r.group),
        "Tasks and models": lambda r: f"{r.blocks}",
        "Recommended": lambda r: r.technique or f"none: {r.reason}",
        "Confidence": lambda r: r.confidence or "–",
        "Best or tied": lambda r: r.level.replace("; ", ", ") or "–",
        "Leader": lambda r: r.leader or "–",
        "Average rank": lambda r: score_text(r.rank, 1) if r.leader else "–",
        f"Gain over {BASELINE} [95% CI]": lambda r: (
            f"{score_text(r.difference, 100, sign='+')} {interval_text(r.low, r.high, scale=100)}"
            if r.leader and r.leader != BASELINE
            else "–"
        ),
        "p": lambda r: p_text(r.p_holm) if r.leader else "–",
        "Worst difference": lambda r: score_text(r.worst, 100, sign="+") if r.leader else "–",
        "p (interaction)": lambda r: p_text(r.interaction_p),
    }
    notes = [
        "Each technique at its configuration recommended on dev; n is the number of tasks and "
        "models.",
        f"Recommended: best or tied on dev, a significant mean gain over {BASELINE} on test (in "
        "points, higher is better), and nowhere significantly worse.",
    ]
    method = [
        "Failed runs are included. Best or tied: on dev, in at least 80% of tasks and models. The "
        "gain has a 95% bootstrap interval over tasks and seeds, its p is Holm-adjusted over "
        "groups and techniques (5%); worse means by more than half a point.",
        "Confidence: strong if this also holds without failed "
        "runs, the technique ranks first in 95% of resamples of the seeds, none of its runs failed "
        f"and all have {FEWEST} seeds; moderate from 80%, otherwise weak.",
        "Average rank (on dev, 1 is best), gain and worst difference are of the recommended "
        "technique or, if there is none, of the leader. p (interaction): studentised "
        "permutation test of whether gains differ between the groups of a dimension with at least "
        "three tasks and models; not adjusted.",
    ]
    details = ["Leader", "Average rank", "Worst difference", "p (interaction)"]
    return table_of(
        "groups",
        "Recommended technique by group",
        frame,
        columns,
        notes=notes,
        details=details,
        method=method,
        nothing="No task has scores that are shares, by which alone groups are compared.",
    )
