"""The frame of runs: validation, and the scores of its cells and blocks."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.frames.columns import COLUMNS, MEMORY
from analysis.frames.units import with_units
from analysis.statistics.summary import Scores

BASELINE = "Standard"  # the technique that all others are compared with
BLOCK = ["task", "model"]
CELL = ["task", "model", "configuration"]
FACTS = ["metric", "higher_is_better", "unit", "task_type", "dev_floor", "test_floor"]  # of a task
OUTCOMES = ("completed", "diverged", "missing")
DEFINED = "as the study defines it"  # where the direction of a metric comes from
BY_NAME, TOLD, ASSUMED = "by its name", "as told", "assumed, no metric is named"  # in score files
LATER: dict[str, Any] = {  # columns that earlier versions did not save, with their meaning there
    **{"stage": "final", "tried": 1, "search": "", "task_type": "", "unit": ""},
    **{"direction_from": DEFINED, "memory_savers": ""},
    **dict.fromkeys(["cut_rows", "cut_tokens", "retained", "base_unchanged", *MEMORY], np.nan),
}
RENAMED = {"floor": "dev_floor"}  # columns that earlier versions saved under another name

Split = Literal["dev", "test"]
Row = dict[str, Any]  # of a frame of results, by column


class ScoreFileError(ValueError):
    """Invalid runs or an invalid score file.

    Attributes:
        mistakes: Every mistake found, one sentence each.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def with_current_names(runs: pd.DataFrame) -> pd.DataFrame:
    """Rename columns that an earlier version saved under another name."""
    return runs.rename(columns={k: v for k, v in RENAMED.items() if v not in runs})


def checked(runs: pd.DataFrame) -> pd.DataFrame:
    """Validate a frame of runs and bring it into canonical order.

    Args:
        runs: One row per run, with at least the columns of `load_runs`; or no rows at all. Frames
            saved by earlier versions, without `LATER` or before `RENAMED`, are read as well.

    Returns:
        A copy sorted by task, model, configuration and seed. What a task fixes (metric, direction,
        unit, floors) is filled in where a missing run lacks it; infinite scores become NaN.

    Raises:
        ScoreFileError: With every mistake: absent columns, scores that are not numbers, unknown
            outcomes, duplicate keys, a label that names two different cells, or a task with two
            metrics, directions, units, types or floors.
    """
    if runs.empty:
        return runs.reindex(columns=COLUMNS)
    runs = with_current_names(runs)
    runs = runs.assign(**{name: value for name, value in LATER.items() if name not in runs})
    absent = [column for column in COLUMNS if column not in runs.columns]
    if absent:
        names = ", ".join(map(repr, absent))
        hint = "; these are predictions: load_runs(...) has runs" if "split" in runs else ""
        raise ScoreFileError([f"the frame of runs has no column {names}{hint}."])
    for column in ("metric", "task_type", "unit"):
        runs[column] = runs[column].replace("", None)  # CSV does not tell an empty text from none
    mistakes = []
    for column in ("dev", "test", "dev_floor", "test_floor", "seconds"):
        try:
            numbers = pd.to_numeric(runs[column]).astype("float64")
            runs[column] = numbers.where(np.isfinite(numbers))
        except (TypeError, ValueError) as error:
            mistakes.append(f"column {column!r} must hold numbers: {error}.")
    unknown = sorted(set(map(str, runs["outcome"])) - set(OUTCOMES))
    if unknown:
        mistakes.append(f"outcome {unknown[0]!r} is not one of {', '.join(OUTCOMES)}.")
    keys = runs.loc[runs["key"].fillna("") != "", "key"]  # a missing run has none
    twice = keys[keys.duplicated()].unique()
    if len(twice):
        mistakes.append(f"key {', '.join(map(str, twice))} occurs more than once.")
    cells = runs.groupby(CELL, dropna=False)["cell"].agg(["nunique", "unique"])
    for label, count, found in cells[cells["nunique"] > 1].itertuples():
        names = ", ".join(sorted(str(cell) for cell in found if not pd.isna(cell)))
        mistakes.append(
            f"{'/'.join(map(str, label))} names {count} different cells ({names}); "
            "analyse them separately."
        )
    tasks = runs.groupby("task")[FACTS]
    several = tasks.nunique() > 1
    for column in FACTS:
        for task in several.index[several[column]]:
            values = runs.loc[runs["task"] == task, column].dropna().unique()
            found = ", ".join(map(str, values))
            mistakes.append(f"task {task!r} has more than one {column}: {found}.")
    runs[FACTS] = tasks.transform("first")
    if mistakes:
        raise ScoreFileError(mistakes)
    runs["metric"] = runs["metric"].fillna("score")
    runs["higher_is_better"] = runs["higher_is_better"].fillna(True).astype(bool)
    runs = with_units(runs).fillna(LATER)
    runs["collapsed"] = runs["collapsed"].fillna(False).astype(bool)
    runs["collapsed"] &= runs["outcome"] == "completed"
    return runs.sort_values([*CELL, "head", "order", "noise", "key"], ignore_index=True)


def final(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the final-stage runs, which tables report; the trials of searches are dropped.

    Args:
        runs: `checked` runs.
    """
    return runs[runs["stage"] != "tune"].reset_index(drop=True)


def scores(cell: pd.DataFrame, split: Split) -> Scores:
    """The scores and failures of one cell on one split, in the metric's own unit.

    Args:
        cell: Rows of `checked` runs that share task, model and configuration.
        split: `dev` or `test`.
    """
    return Scores(
        values=cell[split].to_numpy("float64"),
        diverged=(cell["outcome"] == "diverged").to_numpy(bool),
        collapsed=cell["collapsed"].to_numpy(bool),
        floor=float(cell[f"{split}_floor"].iloc[0]),
    )


def by_seed(block: pd.DataFrame, split: Split) -> pd.DataFrame:
    """The scores of a block as a table with a row per seed and a column per configuration.

    Args:
        block: Rows of `checked` runs that share task and model.
        split: `dev` or `test`.

    Returns:
        Failed runs without a score enter at the floor; NaN where a configuration has no run with
        that seed. Repeats of a seed get rows of their own.
    """
    failed = (block["outcome"] == "diverged") | block["collapsed"]
    floor = block[f"{split}_floor"]
    streams = ["head", "order", "noise"]
    found = block[["configuration", *streams]].fillna(dict.fromkeys(streams, -1))
    found["again"] = found.groupby(["configuration", *streams]).cumcount()
    found["score"] = block[split].where(block[split].notna() | ~failed, floor)
    return found.pivot(index=[*streams, "again"], columns="configuration", values="score")


def blocks(runs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield each task and model with its runs, which are compared with each other."""
    for (task, model), block in runs.groupby(BLOCK):
        yield str(task), str(model), block


def configurations(block: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The cells of one block, by configuration label."""
    return {str(label): cell for label, cell in block.groupby("configuration")}


def baseline_of(block: pd.DataFrame) -> str:
    """The baseline configuration of a block; empty if there is none.

    A searched configuration of the technique `Standard` takes precedence over a fixed one, so that
    tuned techniques are compared with a tuned baseline. Among fixed ones it is the one with the
    study's recipe, or the only one.

    Args:
        block: Final-stage runs, or cells, that share task and model.
    """
    own = block[block["technique"] == BASELINE]
    searched = own[own["tried"] > 1]
    labels = sorted(set(own["configuration"] if searched.empty else searched["configuration"]))
    if BASELINE in labels:
        return BASELINE
    return labels[0] if len(labels) == 1 else ""


def task_facts(block: pd.DataFrame) -> Row:
    """What a task fixes, as columns of a frame of results.

    Args:
        block: Rows of `checked` runs that share a task.

    Returns:
        metric, higher_is_better, direction_from (where that comes from), scale (100 if scores are
        proportions, else 1) and floor_known (whether the score of a constant predictor is known,
        without which no run is marked as collapsed).
    """
    return {
        "metric": block["metric"].iloc[0],
        "higher_is_better": bool(block["higher_is_better"].iloc[0]),
        "scale": 1.0 if block["unit"].iloc[0] == "own" else 100.0,
        "direction_from": block["direction_from"].iloc[0],
        "floor_known": bool(block[["dev_floor", "test_floor"]].notna().any(axis=None)),
    }


def orientation(block: pd.DataFrame) -> float:
    """The sign that makes higher scores better: 1 or -1.

    Args:
        block: Rows of `checked` runs that share a task.
    """
    return 1.0 if block["higher_is_better"].iloc[0] else -1.0
