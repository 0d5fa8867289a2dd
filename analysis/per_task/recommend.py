"""Recommended configuration per task and model, under limits on memory, time and forgetting."""

from typing import Literal

import pandas as pd

from analysis.frames.runs import Row, blocks, checked, configurations, final
from analysis.per_task.best_strategy import best_strategy, no_winner
from analysis.per_task.memory import needed_memory
from analysis.per_task.pareto import costs_of
from analysis.per_task.retained import retained_text
from analysis.rendering.builder import RowTuple
from analysis.rendering.formatting import percent_text, score_text, sd_text
from analysis.statistics.tie_set import Preference

Confidence = Literal["strong", "moderate", "weak"]
STRONG, MODERATE = 0.95, 0.80  # shares of resamples in which the same name ranks first
FEWEST = 5  # seeds of each candidate for strong confidence; below, even a mean is unreliable


def recommend(
    runs: pd.DataFrame,
    *,
    max_memory: float | None = None,
    max_seconds: float | None = None,
    keep: float | None = None,
    prefer: Preference = "stable",
) -> pd.DataFrame:
    """The best strategy among the configurations within the limits, with its confidence.

    Args:
        runs: One row per run, as `load_runs` gives them.
        max_memory: Limit on the memory of every run of a configuration, in bytes: the peak of a
            GPU, on a CPU what a step holds; None for no limit.
        max_seconds: Limit on its mean seconds per run; None for no limit.
        keep: The least share of every other skill that each run of a configuration must have
            retained (see `frames.load.load_retained`), such as 0.95; None for no limit.
        prefer: How ties on dev are broken: `stable` by fewer failures, smaller sd (where all have
            15 seeds and the tests of spread show it), higher dev mean, then lower cost; `fast` by
            fewer failures, lower cost, then as `stable`; `score` by the best dev mean alone.

    Returns:
        One row per task and model, with the columns of `best_strategy` over the configurations
        within the limits, and: fitting (number of those), unfitting (the others, each with its
        cost and by how much that is beyond the limit, joined by "; "; an unknown cost is beyond any
        limit), seconds, memory and retained of the recommended one (of any run the most memory and
        the least retained), the key of one of its runs (from which
        its settings can be read), and confidence: `strong` if it has the best dev mean in 95% of
        resamples, leaving out failed runs changes nothing, no run of it failed, no other is tied
        with it and all have at least five seeds; `moderate` from 80%, if leaving out failed runs
        changes nothing and no other is tied with it; otherwise, and where there is no other to
        compare with, `weak`. Where no configuration is within the limits or has a score, or all
        runs of the one picked failed, recommended, key and confidence are empty.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any", dev=runs["test"])
        >>> columns = ["recommended", "tied", "fitting", "confidence"]
        >>> recommend(runs)[columns]
                         recommended tied  fitting confidence
        0  microsoft_deberta_v3_base             4     strong
    """
    runs = final(checked(runs))
    runs = runs.assign(needed_memory=needed_memory(runs))
    limits = {"memory": max_memory, "seconds": max_seconds, "retained": keep}
    fits = pd.Series(True, index=runs.index)
    rows: list[Row] = []
    for task, model, block in blocks(runs):
        over_limit = {}
        for label, cell in configurations(block).items():
            costs = costs_of(cell)
            broken = [
                _excess(name, costs[name], limit)
                for name, limit in limits.items()
                if limit is not None and not _within(name, costs[name], limit)
            ]
            if broken:
                over_limit[label] = f"{label}: {', and '.join(broken)}"
                fits[cell.index] = False
        fitting = block["configuration"].nunique() - len(over_limit)
        row: Row = {"task": task, "model": model, "fitting": fitting}
        rows.append(row | {"unfitting": "; ".join(over_limit.values())})
    best = best_strategy(runs[fits], prefer)
    if not rows:
        return best
    frame = pd.DataFrame(rows).merge(best, how="left", on=["task", "model"])
    frame["recommended"] = frame["recommended"].fillna("")
    about = [_about(runs[fits], row) for row in frame.itertuples()]
    return pd.concat([frame, pd.DataFrame(about, index=frame.index)], axis=1)


def confidence(share: float, *, holds: bool, solid: bool) -> Confidence:
    """Confidence in a recommendation: strong, moderate or weak.

    Args:
        share: Share of resamples of the runs in which the same name ranks first.
        holds: Whether the recommendation also holds without the failed runs.
        solid: Whether it rests on at least `FEWEST` seeds each, and no run of it failed.
    """
    if holds and solid and share >= STRONG:
        return "strong"
    return "moderate" if holds and share >= MODERATE else "weak"


def advice(frame: pd.DataFrame) -> list[str]:
    """One or two sentences per row of `recommend`."""
    return [_sentence(row) for row in frame.itertuples()]


def _within(name: str, cost: float, limit: float) -> bool:
    return cost >= limit if name == "retained" else cost <= limit


def _excess(name: str, cost: float, most: float) -> str:
    """A cost and how far it is beyond the limit, such as `9.1 GB, 1.1 GB over`."""
    if not cost >= 0:
        return f"{name} unknown"
    if name == "retained":
        return f"a run retained {percent_text(cost, digits=1)}, not {percent_text(most, digits=1)}"
    unit, size = ("GB", 1e9) if name == "memory" else ("s", 1.0)
    return f"{_short(cost / size)} {unit}, {_short((cost - most) / size)} {unit} over"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _about(runs: pd.DataFrame, row: RowTuple) -> Row:
    """Costs, key and confidence of the recommended configuration, from the runs in question."""
    if not row.recommended:
        unknown = dict.fromkeys(("seconds", "memory", "retained"), float("nan"))
        return {**unknown, "key": "", "confidence": ""}
    block = runs[(runs["task"] == row.task) & (runs["model"] == row.model)]
    finished = (block["outcome"] != "missing").groupby(block["configuration"]).sum()
    cell = block[block["configuration"] == row.recommended]
    keys = cell.loc[cell["outcome"] != "missing", "key"]
    solid = finished.min() >= FEWEST and not row.failed
    holds = row.sensitivity == "" and row.ranked > 1 and not row.tied
    sure = confidence(row.probability_best, holds=holds, solid=solid)
    return {**costs_of(cell), "key": str(keys.iloc[0]), "confidence": sure}


def _sentence(row: RowTuple) -> str:
    block = f"{row.task}, {row.model}"
    if not row.fitting:
        return f"{block}: no configuration is within the limits."
    if not row.recommended:
        return f"{block}: nothing can be recommended; {row.decided_by}."
    costs = [] if pd.isna(row.seconds) else [f"{row.seconds:.3g} s"]
    costs += [] if pd.isna(row.memory) else [f"{row.memory / 1e9:.2f} GB"]
    test = score_text(row.test_mean, row.scale)
    if pd.notna(row.test_sd):
        test += f" ± {sd_text(row.test_sd, row.scale)}"
    seeds = "seed" if row.n == 1 else "seeds"
    if row.tied:  # as the report says it
        text = f"{block}: {no_winner(row)}. If one must be taken now: {row.recommended}"
    else:
        text = f"{block}: {row.recommended}, {row.confidence} confidence"
    text += f" (test {row.metric} {test} over {row.n:.0f} {seeds}"
    if pd.notna(row.retained_mean):
        text += f"; {retained_text(row)} % retained of the skill that lost most"
    text += f"; {', '.join(costs)} per run)." if costs else ")."
    if row.ranked == 1:
        text += " There is no other to compare it with."
    if row.tied:
        text += f" Tied with {row.tied.replace('; ', ', ')}; tie broken by {row.decided_by}, "
        text += "which is no evidence of a better score."
    return text
