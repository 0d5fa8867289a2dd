"""Findings of a study in sentences, each with its uncertainty."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.frames.runs import BASELINE
from analysis.per_task.best_strategy import no_winner
from analysis.per_task.failures import failed_text
from analysis.per_task.recommend import FEWEST
from analysis.rendering.builder import NAMED, POINTS, RowTuple
from analysis.rendering.formatting import (
    has_width,
    interval_text,
    metric_text,
    p_sentence,
    possible,
    score_text,
    score_with_interval,
    sd_interval_text,
    sd_text,
)
from analysis.statistics.collapse import COLLAPSED
from analysis.statistics.common import ALPHA
from analysis.statistics.power import pooled_sd, seeds_for_difference
from analysis.statistics.spread import ENOUGH_FOR_SPREAD

MOST = 200  # seeds; larger numbers only say that it is hopeless
EFFECT = 2  # points; a difference of which the findings say how many seeds it takes
LEVEL = ", although level with it on dev, where the choice is made"
UNKNOWN_COLLAPSE = "whether any collapsed is unknown (no floor)"


def answer(
    best: pd.DataFrame, scatter: pd.DataFrame, compared: pd.DataFrame | None = None
) -> dict[str, list[str]]:
    """The findings per task and model.

    Args:
        best: The frame that `best_strategy` returns.
        scatter: The frame that `stability` returns.
        compared: The frame that `pairs` returns; with it, differences of all others from a
            recommended baseline are given.

    Returns:
        Headings such as `rte, minilm`, each with sentences on the recommended configuration, its
        difference from the baseline, the configuration with the smallest sd, and failed runs.
        Empty without runs.

    Example:
        >>> from analysis import answer, best_strategy, example_runs, stability
        >>> runs = example_runs()
        >>> runs = runs[(runs["task"] == "rte") & (runs["model"] == "roberta_base")]
        >>> for sentence in answer(best_strategy(runs), stability(runs))["rte, roberta_base"]:
        ...     print(sentence)
        No run has a dev score, so nothing is recommended.
        None of the 20 finished runs diverged; whether any collapsed is unknown (no floor).
    """
    found = {}
    rows: list[RowTuple] = list(best.itertuples())
    for row in rows:
        own = scatter[(scatter["task"] == row.task) & (scatter["model"] == row.model)]
        cells: list[RowTuple] = list(own.itertuples())
        found[f"{row.task}, {row.model}"] = [
            *_choice(row, cells),
            *_against_baseline(row),
            *_others(row, compared),
            *_most_stable(cells),
            *_failed(cells),
        ]
    return found


def alike(found: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The findings, with those that say the same under one heading, which names up to `NAMED`.

    Args:
        found: As `answer` returns it.
    """
    headings: dict[tuple[str, ...], list[str]] = {}
    for heading, sentences in found.items():
        headings.setdefault(tuple(sentences), []).append(heading)
    return {_headed(same): list(sentences) for sentences, same in headings.items()}


def _headed(headings: list[str]) -> str:
    more = f"; and {len(headings) - NAMED} more" if len(headings) > NAMED else ""
    return f"{'; '.join(headings[:NAMED])}{more}"


def over_tasks(found: pd.DataFrame) -> list[str]:
    """Who has the best average rank over tasks, and who is not significantly worse.

    Args:
        found: As `ranks` returns it.

    Returns:
        A sentence per pool with two groups or more, for at most `NAMED` pools.
    """
    if "average_rank" not in found or found.empty:
        return []
    kind = next(c for c in ("configuration", "technique", "model") if c in found)
    within = "model" if kind != "model" else None
    sentences = []
    for model, pool in list(found.groupby(within) if within else [("", found)])[:NAMED]:
        rows: list[RowTuple] = list(pool.itertuples())
        if len(rows) < 2 or not np.isfinite(rows[0].average_rank):
            continue
        best, *others = rows
        level = [str(getattr(r, kind)) for r in others if not r.p_best < ALPHA]
        behind = "all others are significantly worse"
        if level:
            few = _listed(level) if len(level) <= NAMED else f"{len(level)} others"
            behind = f"not significantly worse: {few}"
        name = str(getattr(best, kind))
        if within and found["model"].nunique() > 1:
            name += f" ({model})"
        sentences.append(
            f"Over {best.tasks} tasks {name} has the best average rank, {best.average_rank:.2f} of "
            f"{len(rows)}; {behind}."
        )
    return sentences


def _choice(row: RowTuple, cells: list[RowTuple]) -> list[str]:
    changes = [row.sensitivity] if row.sensitivity else []
    if not any(cell.finished for cell in cells):
        return ["No run has finished yet."]
    if not row.best_dev:
        return ["No run has a dev score, so nothing is recommended."]
    if not row.recommended:
        return [f"No configuration can be recommended: {row.decided_by}.", *_cure(cells), *changes]
    result = "It has no test score."
    if row.n:
        score = score_text(row.test_mean, row.scale)
        if row.compared == 1:  # elsewhere the interval would have to allow for the choice
            score = score_with_interval(
                row.test_mean,
                *possible(
                    row.test_mean_low, row.test_mean_high, metric=row.metric, scale=row.scale
                ),
                scale=row.scale,
            )
        result = (
            f"Mean test {metric_text(row.metric, row.higher_is_better, scale=row.scale)} "
            f"of {row.recommended} over {row.n} {_seeds(row.n)}: {score}"
        )
        result += f", with sd {sd_text(row.test_sd, row.scale)}." if row.n > 1 else "."
    if row.tried > 1:
        result += f" It was selected from {row.tried} configurations, using other seeds."
    if row.compared == 1:
        return [f"Only {row.recommended} was run.", result]
    first = f"Use {row.recommended}: it is best on dev, and no other configuration is tied with it."
    if row.tied:
        level = [row.recommended, *str(row.tied).split("; ")]
        words = no_winner(row)
        first = (
            f"{words[0].upper()}{words[1:]}: {_listed(level)} do not differ significantly on dev. "
            f"If one must be taken now: {row.recommended}, for its {row.decided_by}, which is no "
            "evidence of a better score."
        )
        others = {cell.configuration for cell in cells} - {*level, *str(row.unscored).split("; ")}
        if others:
            first += f" Behind them on dev: {_listed(sorted(others))}."
    elif row.unscored:
        first = f"So far {row.recommended} is best on dev."
    if row.unscored:
        waiting = _listed(str(row.unscored).split("; "))
        first += f" No score yet, so not compared: {waiting}."
    return [first, result, *_needed(row, cells), *changes]


def _cure(cells: list[RowTuple]) -> list[str]:
    """What may help where runs collapsed."""
    if not any(cell.collapsed for cell in cells):
        return []
    return [
        f"Collapsed means {COLLAPSED}, on these dev rows: more epochs, another learning rate or "
        "more training rows may raise the scores, and more dev rows lower the bar."
    ]


def _needed(row: RowTuple, cells: list[RowTuple]) -> list[str]:
    """How many seeds would tell configurations apart, where none is shown to be best."""
    sd = pooled_sd(np.array([cell.sd for cell in cells], dtype=np.float64))
    if not row.tied or row.scale != POINTS or np.isnan(sd):
        return []
    alpha = ALPHA / max(1, row.compared - 1)  # as `study plan --detect`
    seeds = seeds_for_difference(EFFECT / POINTS, sd, alpha=alpha)
    many = f"{max(seeds, FEWEST)}" if seeds <= MOST else f"more than {MOST}"
    return [
        f"With runs that vary this much (sd {sd_text(sd, row.scale)} on test, pooled over "
        f"configurations), it takes {many} seeds each to find a difference of {EFFECT} points in "
        "four of five studies."
    ]


def _against_baseline(row: RowTuple) -> list[str]:
    if not row.recommended or row.reason == "is_baseline" or not row.n:
        return []
    if row.reason == "no_baseline":
        return ["There is no baseline, so no gain is given."]
    gap = score_text(row.difference, row.scale, sign="+")
    if row.reason == "zero_variance":
        return [
            f"On test {row.recommended} differs from {BASELINE} by {gap}; no run of either differs "
            "from the others, so there is no test."
        ]
    if np.isnan(row.p_holm):
        return [
            f"On test {row.recommended} differs from {BASELINE} by {gap}; there are too few runs "
            "for a test."
        ]
    ends = interval_text(row.difference_low, row.difference_high, scale=row.scale)
    verdict = "significant" if row.p_holm < ALPHA else "not significant"
    level = row.p_holm < ALPHA and BASELINE in str(row.tied).split("; ")
    return [
        f"On test {row.recommended} differs from {BASELINE} by {gap} {ends}: {verdict} "
        f"({p_sentence(row.p_holm)}){LEVEL if level else ''}."
    ]


def _others(row: RowTuple, compared: pd.DataFrame | None) -> list[str]:
    """Differences of the others from the baseline, where that is recommended; up to `NAMED`."""
    if compared is None or compared.empty or row.reason != "is_baseline":
        return []
    own = compared[(compared["task"] == row.task) & (compared["model"] == row.model)]
    found, significant = [], set()
    every: list[RowTuple] = list(own.itertuples())
    for pair in every:
        if row.recommended in (pair.first, pair.second) and np.isfinite(pair.p_holm):
            other, gap = pair.first, pair.difference
            if other == row.recommended:
                other, gap = pair.second, -gap
            p = f" ({p_sentence(pair.p_holm)})" if pair.p_holm < ALPHA else ""
            if p:
                significant.add(other)
            found.append(f"{other} {score_text(gap, row.scale, sign='+')}{p}")
    if not found or len(found) > NAMED:
        return []
    few = "" if significant else ", none significant"
    level = sorted(significant & set(str(row.tied).split("; ")))
    last = f"; significant{LEVEL}: {_listed(level)}" if level else ""
    return [f"Differences from {row.recommended} on test{few}: {', '.join(found)}{last}."]


def _most_stable(cells: list[RowTuple]) -> list[str]:
    measured = [cell for cell in cells if np.isfinite(cell.sd) and cell.clean_n > 1]
    equal = [cell for cell in measured if cell.sd == 0]
    measured = [cell for cell in measured if cell.sd > 0]
    if equal:
        names = _listed([f"{cell.configuration} ({cell.n} runs)" for cell in equal])
        start = [
            f"All runs scored the same, sd 0: {names}. Seeds seem to change nothing there, so no "
            "stability is claimed."
        ]
        return start + _smallest(measured, of=len(cells))
    return _smallest(measured, of=len(cells))


def _smallest(measured: list[RowTuple], *, of: int) -> list[str]:
    if len(measured) < 2:
        return []
    least = min(measured, key=lambda cell: (round(cell.sd, 12), cell.configuration))
    if least.verdict == "too few seeds" or least.clean_n < ENOUGH_FOR_SPREAD:
        return []  # a caveat says that too few seeds allow no claim
    sd = sd_text(least.sd, least.scale)
    if has_width(least.sd_low, least.sd_high):
        sd += f" {sd_interval_text(least.sd_low, least.sd_high, scale=least.scale)}"
        sd += f", allowing for the choice among {of}"
    return [f"{least.configuration} has the smallest sd over seeds ({sd}){_support(least)}."]


def _support(least: RowTuple) -> str:
    match least.verdict:
        case "less scatter":
            return (
                f", significantly smaller than that of {BASELINE} (ratio {least.ratio:.2f}, "
                f"{p_sentence(least.p_holm)})"
            )
        case "baseline":
            return ", and is the baseline"
        case "no baseline" | "baseline without scatter":
            return ""
    return f", but not significantly smaller than that of {BASELINE} ({p_sentence(least.p_holm)})"


def _failed(cells: list[RowTuple]) -> list[str]:
    failed = [cell for cell in cells if cell.failed]
    finished = sum(cell.finished for cell in cells)
    known = all(cell.floor_known for cell in cells)
    unknown = "" if known else f"; {UNKNOWN_COLLAPSE}"
    if not failed:
        verb = "failed" if known else "diverged"
        return [f"None of the {finished} finished runs {verb}{unknown}."] if finished else []
    counts = _listed(
        [
            f"{c.configuration} ({failed_text(c.diverged, c.collapsed)} of {c.finished} runs)"
            for c in failed
        ]
    )
    return [f"{'Failed' if known else 'Diverged'}: {counts}{unknown}."]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _seeds(n: int) -> str:
    return "seed" if n == 1 else "seeds"
