"""The frame of runs: what must be in it, and the scores of its cells."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.frames.columns import COLUMNS
from analysis.statistics.summary import Scores

BASELINE = "Standard"  # the technique that the others are compared with
BLOCK = ["task", "model"]
CELL = ["task", "model", "configuration"]
OUTCOMES = ("completed", "diverged", "missing")
LATER: dict[str, Any] = {"stage": "final", "tried": 1, "search": "", "task_type": ""}
RENAMED = {"floor": "dev_floor"}  # columns that earlier versions saved under another name

Split = Literal["dev", "test"]
Row = dict[str, Any]  # of a frame of answers, by column


class ScoreFileError(ValueError):
    """Runs from which no right number can be made, with every mistake, a line each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def with_current_names(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the columns of `RENAMED` under their present names."""
    return runs.rename(columns={k: v for k, v in RENAMED.items() if v not in runs})


def checked(runs: pd.DataFrame) -> pd.DataFrame:
    """The same runs in one order, after everything that would make a wrong number is refused.

    Args:
        runs: One row per run, with at least the columns of `load_runs`; or no rows at all. Frames
            saved before a column of `LATER` was there are read as they were meant.

    Returns:
        A copy sorted by task, model, configuration and seed. What a task fixes (metric, direction,
        floors) is filled in where a missing run does not know it; infinite scores become NaN.

    Raises:
        ScoreFileError: With every mistake: absent columns, scores that are not numbers, unknown
            outcomes, keys that stand twice, a label that names two different cells, or a task with
            two metrics, directions, types or floors.
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
    runs["task_type"] = runs["task_type"].replace("", None)  # not known, as in a file of CSV
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
        mistakes.append(f"key {', '.join(map(str, twice))} stands more than once.")
    for label, cell in runs.groupby(CELL, dropna=False)["cell"]:
        if cell.nunique() > 1:
            mistakes.append(
                f"{'/'.join(map(str, label))} names {cell.nunique()} different cells "
                f"({', '.join(map(str, sorted(cell.dropna().unique())))}); analyse them apart."
            )
    for column in ("metric", "higher_is_better", "task_type", "dev_floor", "test_floor"):
        for task, values in runs.groupby("task")[column]:
            if values.nunique() > 1:
                found = ", ".join(map(str, values.dropna().unique()))
                mistakes.append(f"task {task!r} has more than one {column}: {found}.")
        runs[column] = runs.groupby("task")[column].transform("first")
    if mistakes:
        raise ScoreFileError(mistakes)
    runs["metric"] = runs["metric"].fillna("score")
    runs = runs.fillna(LATER)
    runs["higher_is_better"] = runs["higher_is_better"].fillna(True).astype(bool)
    runs["collapsed"] = runs["collapsed"].fillna(False).astype(bool)
    runs["collapsed"] &= runs["outcome"] == "completed"
    return runs.sort_values([*CELL, "head", "order", "noise", "key"], ignore_index=True)


def final(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that tables are about: those that no choice was made by.

    Args:
        runs: `checked` runs.
    """
    return runs[runs["stage"] != "tune"].reset_index(drop=True)


def scores(cell: pd.DataFrame, split: Split) -> Scores:
    """The scores of one cell on one split, with its failures.

    Args:
        cell: Rows of `checked` runs that share task, model and configuration.
        split: Which scores to read.
    """
    return Scores(
        values=cell[split].to_numpy("float64"),
        diverged=(cell["outcome"] == "diverged").to_numpy(bool),
        collapsed=cell["collapsed"].to_numpy(bool),
        floor=float(cell[f"{split}_floor"].iloc[0]),
    )


def by_seed(block: pd.DataFrame, split: Split) -> pd.DataFrame:
    """The scores of a block side by side: a row per seed, a column per configuration.

    Args:
        block: Rows of `checked` runs that share task and model.
        split: Which scores to read.

    Returns:
        Failed runs without a score at the floor; NaN where a configuration has no such run. A
        configuration that repeats a seed has a row for each time.
    """
    failed = (block["outcome"] == "diverged") | block["collapsed"]
    floor = block[f"{split}_floor"]
    streams = ["head", "order", "noise"]
    found = block[["configuration", *streams]].fillna(dict.fromkeys(streams, -1))
    found["again"] = found.groupby(["configuration", *streams]).cumcount()
    found["score"] = block[split].where(block[split].notna() | ~failed, floor)
    return found.pivot(index=[*streams, "again"], columns="configuration", values="score")


def blocks(runs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, model, and the runs that are compared with each other."""
    for (task, model), block in runs.groupby(BLOCK):
        yield str(task), str(model), block


def configurations(block: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The cells of one block, by the label of their configuration."""
    return {str(label): cell for label, cell in block.groupby("configuration")}


def baseline_of(block: pd.DataFrame) -> str:
    """The configuration that the others are compared with; empty where there is none.

    The searched one of the technique `Standard` comes before one that the file states: what was
    tuned is compared with what was tuned. Among stated ones it is the one with the study's recipe,
    or the only one.

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
    """What a task fixes: metric, direction, and scale, which is 100 where scores are shares.

    Args:
        block: Rows of `checked` runs that share a task.
    """
    known = block[["dev", "test", "dev_floor", "test_floor"]]
    negated = known.max().max() < 0  # an error with its sign turned is no share
    largest = known.abs().max().max()
    higher = bool(block["higher_is_better"].iloc[0])
    return {
        "metric": block["metric"].iloc[0],
        "higher_is_better": higher,
        "scale": 100.0 if higher and not (largest > 1 or negated) else 1.0,
    }


def orientation(block: pd.DataFrame) -> float:
    """What scores are multiplied by so that higher is better; rows of `checked` runs of a task."""
    return 1.0 if block["higher_is_better"].iloc[0] else -1.0
