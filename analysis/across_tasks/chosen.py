"""The configuration, chosen on dev, with which a technique or model enters each task."""

from collections.abc import Sequence

import pandas as pd

from analysis.frames.runs import checked, final, task_facts
from analysis.per_task.best_strategy import choice

GROUPS = ("model", "technique", "configuration")


def chosen(runs: pd.DataFrame, by: Sequence[str] = ("model",)) -> pd.DataFrame:
    """Keep, per group and task, the runs of the configuration recommended on dev.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: Columns that identify a group: `model`, and optionally `technique` or `configuration`.
            There is no choice between models.

    Returns:
        Runs of the final stage, one configuration per group and task; where none has a score, the
        first by name, so that missing runs stay counted.

    Raises:
        ValueError: If `runs` is malformed (see `frames.runs.checked`) or `by` is not such columns.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> list(chosen(runs)["configuration"].unique())
        ['Standard']
    """
    if "model" not in by or not set(by) <= set(GROUPS):
        raise ValueError(
            f"by = {tuple(by)!r} must contain 'model' and otherwise only names in {GROUPS}."
        )
    runs = final(checked(runs))
    kept = []
    for _, block in runs.groupby([*by, "task"]):
        labels = sorted(block["configuration"].unique())
        label = labels[0] if len(labels) == 1 else choice(block).recommended or labels[0]
        kept.append(block[block["configuration"] == label])
    return pd.concat(kept, ignore_index=True) if kept else runs


def unfit(runs: pd.DataFrame) -> dict[str, str]:
    """Tasks, with their metric, whose scores are not shares and so enter no mean over tasks."""
    facts = {str(task): task_facts(block) for task, block in final(checked(runs)).groupby("task")}
    return {task: str(about["metric"]) for task, about in facts.items() if about["scale"] != 100}
