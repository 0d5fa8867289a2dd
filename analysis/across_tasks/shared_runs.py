"""Runs that were scored on several tasks, such as a checkpoint evaluated on a whole benchmark."""

import pandas as pd

from analysis.frames.columns import STREAMS

TOGETHER = (
    "Rows with the same model, configuration and seed on several tasks are taken as one run scored "
    "on all of them"
)


def run_ids(runs: pd.DataFrame) -> "pd.Series[str]":
    """An id per row, the same for rows that are one run scored on several tasks.

    A run of a study is trained on the rows of its task, so it is on no other. Scores from other
    tools do not say this: there, rows of a model and configuration with the same seed are taken as
    one run. Intervals that resample such rows together are valid also if the runs were trained
    separately; they are then wider than necessary.

    Args:
        runs: `checked` runs of all tasks.
    """
    named = runs["model"].astype("string")
    for name in ("configuration", *STREAMS):
        named = named + "\x1f" + runs[name].astype("string")
    named = named.fillna("")
    trained = runs.groupby("task")["train_rows"].transform("count") > 0
    missing = runs["outcome"] == "missing"  # nothing is known of it, and it has no score
    number = "\x1f" + runs.index.astype("string")
    one_task = trained | missing | runs[STREAMS].isna().any(axis=1)
    return named.mask(one_task, named + "\x1f" + runs["task"].astype("string") + number)


def on_several_tasks(runs: pd.DataFrame) -> bool:
    """Whether some run was scored on more than one task.

    Args:
        runs: `checked` runs.
    """
    return bool((runs["task"].groupby(run_ids(runs)).nunique() > 1).any())
