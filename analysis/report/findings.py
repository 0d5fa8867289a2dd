"""The answer of a study in sentences, each with its uncertainty."""

import numpy as np
import pandas as pd

from analysis.frames.runs import BASELINE
from analysis.rendering.builder import RowTuple
from analysis.rendering.formatting import (
    interval_text,
    metric_text,
    p_text,
    score_text,
    score_with_interval,
)
from analysis.statistics.common import ALPHA


def answer(best: pd.DataFrame, scatter: pd.DataFrame) -> dict[str, list[str]]:
    """What the runs say, per task and model.

    Args:
        best: As `tables.best_strategy` gives it.
        scatter: As `tables.stability` gives it.

    Returns:
        Headings such as `rte, minilm`, each with sentences on which configuration to use, how it
        compares with the baseline, which scatters least and whether that is supported, and what
        failed. Empty for no runs.
    """
    found = {}
    rows: list[RowTuple] = list(best.itertuples())
    for row in rows:
        cells = scatter[(scatter["task"] == row.task) & (scatter["model"] == row.model)]
        found[f"{row.task}, {row.model}"] = [
            *_choice(row),
            *_against_baseline(row),
            *_calmest(list(cells.itertuples())),
            *_failed(list(cells.itertuples())),
        ]
    return found


def _choice(row: RowTuple) -> list[str]:
    changes = [row.sensitivity] if row.sensitivity else []
    if not row.best_dev:
        return ["No run has a dev score, so nothing is recommended."]
    if not row.recommended:
        return [f"Nothing here can be recommended: {row.decided_by}.", *changes]
    score = score_with_interval(
        row.test_mean, row.test_mean_low, row.test_mean_high, scale=row.scale
    )
    result = (
        f"Its mean test {metric_text(row.metric, row.higher_is_better, scale=row.scale)} over "
        f"{row.n} {_seeds(row.n)} is {score}, with sd {score_text(row.test_sd, row.scale)}."
    )
    if row.tried > 1:
        result += f" It was chosen from {row.tried} configurations on other seeds."
    if row.compared == 1:
        return [f"Only {row.recommended} was run.", result]
    first = f"{row.recommended} is the best on dev, and no other is level with it."
    if row.tied:
        tied = _listed(str(row.tied).split("; "))
        first = (
            f"Use {row.recommended}, but the runs do not tell it apart from {tied}; among these "
            f"it was picked by: {row.decided_by}."
        )
    if row.unscored:
        waiting = _listed(str(row.unscored).split("; "))
        first = f"So far, of those with a score: {first} No score yet: {waiting}."
    return [first, result, *changes]


def _against_baseline(row: RowTuple) -> list[str]:
    if not row.recommended or row.reason == "is_baseline":
        return []
    if row.reason == "no_baseline":
        return [f"{BASELINE} was not run, so nothing is known of the gain over it."]
    gap = score_text(row.difference, row.scale, sign="+")
    if np.isnan(row.p_holm):
        return [f"Its difference to {BASELINE} is {gap}, which too few runs test."]
    ends = interval_text(row.difference_low, row.difference_high, scale=row.scale)
    verdict = "a supported difference" if row.p_holm < ALPHA else "not a supported difference"
    return [f"Against {BASELINE} that is {gap} {ends}, {verdict} (p = {p_text(row.p_holm)})."]


def _calmest(cells: list[RowTuple]) -> list[str]:
    measured = [cell for cell in cells if np.isfinite(cell.sd) and cell.clean_n > 1]
    if len(measured) < 2:
        return []
    calm = min(measured, key=lambda cell: (round(cell.sd, 12), cell.configuration))
    spread = score_text(calm.sd, calm.scale)
    return [f"{calm.configuration} scatters least (sd {spread}){_support(calm)}."]


def _support(calm: RowTuple) -> str:
    match calm.verdict:
        case "less scatter":
            ratio = f"{calm.ratio:.2f} of {BASELINE}'s"
            return f", which is supported: {ratio}, p = {p_text(calm.p_holm)}"
        case "baseline":
            return ", and that is the baseline"
        case "no baseline":
            return ""
        case "too few seeds":
            return f", but {calm.n_both:.0f} seeds do not support a claim about scatter"
    return f", but not demonstrably less than {BASELINE} (p = {p_text(calm.p_holm)})"


def _failed(cells: list[RowTuple]) -> list[str]:
    failed = [cell for cell in cells if cell.failed]
    finished = sum(cell.finished for cell in cells)
    if not failed:
        return [f"None of the {finished} finished runs failed."] if finished else []
    return [
        "Failed: "
        + _listed([f"{c.configuration} ({c.failed} of {c.finished} runs)" for c in failed])
        + "."
    ]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _seeds(n: int) -> str:
    return "seed" if n == 1 else "seeds"
