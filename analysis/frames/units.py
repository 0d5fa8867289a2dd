"""One unit per task: shares, per cent (read as shares), or the metric's own unit."""

import pandas as pd

from analysis.frames.metric_names import meaning

NUMBERS = ["dev", "test", "dev_floor", "test_floor"]
APART = 10  # ratio of medians from which scores of an unnamed metric look like shares and per cent
UNNAMED_METRIC = "score"  # metric of a file that does not name one
NAMED = 5  # rows that a message lists


def with_units(runs: pd.DataFrame) -> pd.DataFrame:
    """Fill the column `unit` where a task has none: `share` if its scores can be, else `own`.

    Scores can be shares, printed in points, if higher is better, none is above 1 or below -1, and
    not all are negative, as negated errors are.

    Args:
        runs: Runs with the columns of `load_runs`; `unit` may be absent.
    """
    known = runs["unit"].replace("", None) if "unit" in runs else pd.Series(None, runs.index)
    scores = runs[NUMBERS].astype("float64")
    low, high = scores.min(axis=1), scores.max(axis=1)
    higher = runs["higher_is_better"].fillna(True).astype(bool)
    by_task = pd.DataFrame({"low": low, "high": high, "higher": higher}).groupby(runs["task"])
    low, high = by_task["low"].min(), by_task["high"].max()
    own = (high > 1) | (low < -1) | (high < 0) | ~by_task["higher"].all()
    unit = runs["task"].map(own.map({True: "own", False: "share"}))
    return runs.assign(unit=known.fillna(unit).fillna("share"))


def entries(runs: pd.DataFrame) -> pd.DataFrame:
    """Every score and floor of a file, with the columns row, column and value."""
    named = runs[["dev", "test", "dev_floor"]].rename(columns={"dev_floor": "floor"})
    long = named.melt(var_name="column", ignore_index=False).dropna()
    return long.rename_axis("row").reset_index().sort_values("row", kind="stable")


def in_one_unit(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Read per cent as shares, in tasks where the metric is a share by its name.

    Args:
        runs: Runs of a score file, with task, metric, direction and scores; indexed by row.

    Returns:
        The runs with a column `unit` (`share`, `percent` for shares that the file has in per cent,
        or empty where the scores decide, see `with_units`), and the mistakes: tasks in which some
        scores are shares and others per cent, with their rows.
    """
    runs, mistakes = runs.assign(unit=""), []
    for task, part in runs.groupby("task"):
        metric, found = str(part["metric"].iloc[0]), entries(part)
        bounded, values = meaning(metric).bounded, found["value"]
        small, large = found[(values > 0) & (values <= 1)], found[values > 1]
        if large.empty:
            continue
        apart = len(small) and large["value"].median() >= APART * small["value"].median()
        if len(small) and (bounded or (apart and metric == UNNAMED_METRIC)):
            mistakes.append(_mixture(str(task), metric, small, large, bounded=bounded))
        elif bounded and part["higher_is_better"].all() and values.max() <= 100:
            runs.loc[part.index, NUMBERS] = part[NUMBERS] / 100
            runs.loc[part.index, "unit"] = "percent"
    return runs, mistakes


def _mixture(
    task: str, metric: str, small: pd.DataFrame, large: pd.DataFrame, *, bounded: bool
) -> str:
    few, others = sorted((small, large), key=len)
    rows = [f"row {r.row}, {r.column} ({r.value:g})" for r in few.head(NAMED).itertuples()]
    more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
    cure = "Write all of them as shares, from 0 to 1."
    if not bounded:
        cure += " If they are in one unit already, name the metric with --metric =NAME."
    kind = "per cent" if few is large else "shares"
    return (
        f"task {task!r} has its {metric} in two units: {', '.join(rows)}{more} look like {kind}, "
        f"the other {len(others)} scores do not. {cure}"
    )
