"""What searches found, as tables for the report: the best of k, and which fields matter."""

from collections.abc import Mapping

import pandas as pd

from analysis.render import Table, score_text
from analysis.tuning import SEARCH, best_of_k, importance

_NAMES = ("Task", "Model", "Technique")


def search_tables(runs: pd.DataFrame, scales: Mapping[tuple[str, str], float]) -> list[Table]:
    """Both tables; none where nothing was searched.

    Args:
        runs: One row per run, as `load_runs` gives them.
        scales: What a task and model's scores are multiplied by, as in `tables.cells`.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    best, weights = best_of_k(runs), importance(runs)
    found = []
    if not best.empty:
        found.append(_best_of_k_table(best, scales))
    if not weights.empty:
        found.append(_importance_table(weights))
    return found


def _best_of_k_table(best: pd.DataFrame, scales: Mapping[tuple[str, str], float]) -> Table:
    """By doubling k, as far as any search says something of it."""
    known = set(best.dropna()["k"])
    counts = [k for k in (1, 2, 4, 8, 16, 32, 64) if k in known]
    body = []
    for key, part in best.groupby(SEARCH):
        task, model, technique = map(str, key)
        by_k, scale = part.set_index("k")["dev"], scales.get((task, model), 1.0)
        scores = [score_text(by_k.get(k, float("nan")), scale) for k in counts]
        body.append((task, model, technique, str(part["n"].iloc[0]), *scores))
    caption = (
        "Dev score to expect of the best of k configurations of the tuning stage, estimated from "
        "the n that were drawn at random and have a score; a dash where k is beyond half of n. "
        "Where it still rises, more trials would have helped."
    )
    header = (*_NAMES, "n", *(f"k = {k}" for k in counts))
    return Table("best_of_k", "Best of k tried", caption, header, tuple(body), (), best)


def _importance_table(weights: pd.DataFrame) -> Table:
    body = []
    for key, part in weights.groupby(SEARCH):
        shares = ", ".join(
            f"{field.partition('.')[2]} {share:.2f}"
            for field, share in zip(part["field"], part["importance"], strict=True)
            if share == share  # NaN where the scores say nothing
        )
        body.append((*map(str, key), str(part["n"].iloc[0]), shares or "–"))
    caption = (
        "Share of the spread of dev scores that each searched field accounts for (functional "
        "ANOVA, the shares of a search add up to 1), over the n configurations with a score. With "
        "a dozen of them it is a hint, not a measurement."
    )
    header = (*_NAMES, "n", "Fields by weight")
    return Table("importance", "Which fields matter", caption, header, tuple(body), (), weights)
