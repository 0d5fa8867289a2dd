"""What to use for each task and model, under limits on memory and time."""

from typing import Literal

import pandas as pd

from analysis.frames.runs import Row, blocks, checked, configurations, final
from analysis.per_task.best_strategy import best_strategy
from analysis.per_task.pareto import costs_of
from analysis.rendering.builder import RowTuple
from analysis.rendering.formatting import score_text
from analysis.statistics.tie_set import Preference

Confidence = Literal["strong", "moderate", "weak"]
STRONG, MODERATE = 0.95, 0.80  # shares of resamplings with the same name on top


def recommend(
    runs: pd.DataFrame,
    *,
    max_memory: float | None = None,
    max_seconds: float | None = None,
    prefer: Preference = "stable",
) -> pd.DataFrame:
    """The best strategy among what fits, and how sure that is.

    Args:
        runs: One row per run, as `load_runs` gives them.
        max_memory: Most bytes that any run of a configuration may have taken; None for no limit.
        max_seconds: Most seconds that its runs may have taken on average; None for no limit.
        prefer: What decides among those that dev does not tell apart: `stable` asks for fewer
            failures, a smaller sd, then lower cost; `fast` for fewer failures, lower cost, then a
            smaller sd; `score` for the highest dev mean alone.

    Returns:
        One row per task and model, with the columns of `tables.best_strategy` over the
        configurations that fit, and: fitting (how many those are), unfitting (the others with the
        limit that they break, joined by "; "; a cost that is not known breaks its limit), seconds
        and memory of the recommended one, the key of one of its runs (from which its settings can
        be read), and confidence: `strong` if it has the highest dev mean in 95 % of resamplings and
        leaving out failed runs changes nothing, `moderate` from 80 %, otherwise `weak`. Where
        nothing fits or has a score, or all runs of the one picked failed, recommended is empty, and
        so are key and confidence.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    runs = final(checked(runs))
    limits = {"memory": max_memory, "seconds": max_seconds}
    fits = pd.Series(True, index=runs.index)
    rows: list[Row] = []
    for task, model, block in blocks(runs):
        too_much = {}
        for label, cell in configurations(block).items():
            costs = costs_of(cell)
            broken = [
                _broken(name, costs[name])
                for name, most in limits.items()
                if most is not None and not costs[name] <= most
            ]
            if broken:
                too_much[label] = f"{label} ({' and '.join(broken)})"
                fits[cell.index] = False
        fitting = block["configuration"].nunique() - len(too_much)
        row: Row = {"task": task, "model": model, "fitting": fitting}
        rows.append(row | {"unfitting": "; ".join(too_much.values())})
    best = best_strategy(runs[fits], prefer)
    if not rows:
        return best
    found = pd.DataFrame(rows).merge(best, how="left", on=["task", "model"])
    found["recommended"] = found["recommended"].fillna("")
    about = [_about(runs, row) for row in found.itertuples()]
    return pd.concat([found, pd.DataFrame(about, index=found.index)], axis=1)


def confidence(share: float, *, holds: bool) -> Confidence:
    """The word for how sure a recommendation is.

    Args:
        share: Share of resamplings of the runs that put the same name on top.
        holds: Whether it also holds without the failed runs.
    """
    if holds and share >= STRONG:
        return "strong"
    return "moderate" if holds and share >= MODERATE else "weak"


def advice(found: pd.DataFrame) -> list[str]:
    """A sentence or two for each row of `recommend`."""
    return [_sentence(row) for row in found.itertuples()]


def _broken(name: str, cost: float) -> str:
    if not cost >= 0:
        return f"{name} not known"
    return f"{cost / 1e9:.2f} GB" if name == "memory" else f"{cost:.3g} s"


def _about(runs: pd.DataFrame, row: RowTuple) -> Row:
    if not row.recommended:
        return {"seconds": float("nan"), "memory": float("nan"), "key": "", "confidence": ""}
    cell = runs[
        (runs["task"] == row.task)
        & (runs["model"] == row.model)
        & (runs["configuration"] == row.recommended)
    ]
    keys = cell.loc[cell["outcome"] != "missing", "key"]
    sure = confidence(row.probability_best, holds=row.sensitivity == "")
    return {**costs_of(cell), "key": str(keys.iloc[0]), "confidence": sure}


def _sentence(row: RowTuple) -> str:
    place = f"{row.task}, {row.model}"
    if not row.fitting:
        return f"{place}: nothing fits."
    if not row.recommended:
        return f"{place}: nothing can be recommended; {row.decided_by}."
    costs = [] if pd.isna(row.seconds) else [f"{row.seconds:.3g} s"]
    costs += [] if pd.isna(row.memory) else [f"{row.memory / 1e9:.2f} GB"]
    test = score_text(row.test_mean, row.scale)
    if pd.notna(row.test_sd):
        test += f" ± {score_text(row.test_sd, row.scale)}"
    seeds = "seed" if row.n == 1 else "seeds"
    said = f"{place}: {row.recommended}, {row.confidence} confidence"
    said += f" (test {row.metric} {test} over {row.n:.0f} {seeds}"
    said += f"; {', '.join(costs)} a run)." if costs else ")."
    if row.tied:
        said += (
            f" Not told apart from it: {row.tied.replace('; ', ', ')}; {row.decided_by} decided."
        )
    return said
