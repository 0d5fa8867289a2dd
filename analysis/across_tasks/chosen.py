"""The configuration, chosen on dev, with which a technique or model enters each task."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.frames.runs import CELL, checked, final, scores, task_facts
from analysis.per_task.best_strategy import choice
from analysis.per_task.cells import cells
from analysis.statistics.multiplicity import simultaneous
from analysis.statistics.summary import summarise

GROUPS = ("model", "technique", "configuration")


def chosen(runs: pd.DataFrame, by: Sequence[str] = ("model",)) -> pd.DataFrame:
    """Keep, per group and task, the runs of the configuration recommended on dev.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: Columns that identify a group: `model`, and optionally `technique` or `configuration`.
            There is no choice between models.

    Returns:
        Runs of the final stage, one configuration per group and task. A group and task with several
        configurations and no dev score is left out, since nothing can be chosen there (`unchosen`
        names these tasks); if none of its runs has finished, the first by name stays, so that
        missing runs stay counted.

    Raises:
        ValueError: If `runs` is malformed (see `frames.runs.checked`) or `by` is not such columns.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> list(chosen(runs)["configuration"].unique())
        ['Standard']
    """
    return choose(runs, by)[0]


def chosen_or_all(runs: pd.DataFrame, by: Sequence[str] = ("model",)) -> pd.DataFrame:
    """As `chosen`, but with all configurations of a group and task where nothing can be chosen."""
    kept = [
        block[block["configuration"] == label] if label else block
        for block, label in _choices(runs, by)
    ]
    return pd.concat(kept, ignore_index=True) if kept else final(checked(runs))


def unchosen(runs: pd.DataFrame, by: Sequence[str] = ("model",)) -> list[str]:
    """The tasks on which a group has several configurations and no dev score to choose one by.

    Args:
        runs: As for `chosen`.
        by: As for `chosen`.
    """
    return choose(runs, by)[1]


def choose(runs: pd.DataFrame, by: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """What `chosen` and `unchosen` return, from one pass over the groups and tasks."""
    kept, undecided = [], set()
    for block, label in _choices(runs, by):
        if label:
            kept.append(block[block["configuration"] == label])
        else:
            undecided.add(str(block["task"].iloc[0]))
    whole = pd.concat(kept, ignore_index=True) if kept else final(checked(runs)).iloc[:0]
    return whole, sorted(undecided)


def _choices(runs: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[pd.DataFrame, str]]:
    """The runs of each group and task, with the configuration chosen; empty if there is none."""
    if "model" not in by or not set(by) <= set(GROUPS):
        raise ValueError(
            f"by = {tuple(by)!r} must contain 'model' and otherwise only names in {GROUPS}."
        )
    for _, block in final(checked(runs)).groupby([*by, "task"]):
        labels = sorted(block["configuration"].unique())
        if len(labels) == 1 or (block["outcome"] == "missing").all():
            yield block, labels[0]
        else:
            yield block, choice(block).recommended


def chosen_cells(
    runs: pd.DataFrame, by: Sequence[str] = ("model",), *, undecided: bool = False
) -> pd.DataFrame:
    """As `cells`, of the chosen configurations, with intervals that allow for the choice.

    Dev and test scores are of the same runs, so an interval for a configuration fixed in advance
    covers too rarely. Those of test mean and sd hold here for all candidates at once.

    Args:
        runs: As for `chosen`.
        by: As for `chosen`.
        undecided: Whether all configurations are kept where nothing can be chosen.

    Returns:
        The columns of `cells`, and `candidates`, the number of configurations with a test score
        that each was chosen from; 1 where nothing was chosen.
    """
    runs = final(checked(runs))
    found = cells((chosen_or_all if undecided else chosen)(runs, by))
    if found.empty:
        return found.assign(candidates=pd.Series(dtype="int64"))
    places = ["task", *by]
    tested = runs[runs["test"].notna() | runs["collapsed"] | (runs["outcome"] == "diverged")]
    counts = tested.groupby(places)["configuration"].nunique()
    kept = found.groupby(places)["configuration"].transform("nunique")
    found["candidates"] = [
        max(1, counts.get(tuple(place), 0)) if several == 1 else 1
        for place, several in zip(found[places].to_numpy(), kept, strict=True)
    ]
    parts = {tuple(map(str, key)): part for key, part in runs.groupby(CELL)}
    for i, row in enumerate(found.to_dict("records")):
        if row["candidates"] > 1:
            own = scores(parts[tuple(str(row[name]) for name in CELL)], "test")
            whole = summarise(own, level=simultaneous(row["candidates"])).whole
            for name in ("mean_low", "mean_high", "sd_low", "sd_high"):
                found.loc[i, f"test_{name}"] = getattr(whole, name)
    return found


def unfit(runs: pd.DataFrame) -> dict[str, str]:
    """Tasks, with their metric, whose scores are not shares and so enter no mean over tasks."""
    facts = {str(task): task_facts(block) for task, block in final(checked(runs)).groupby("task")}
    return {task: str(about["metric"]) for task, about in facts.items() if about["scale"] != 100}
