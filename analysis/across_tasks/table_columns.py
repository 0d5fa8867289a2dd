"""Columns and caption notes shared by the tables of pools (`across_tasks.pools`)."""

from collections.abc import Collection
from functools import partial

import pandas as pd

from analysis.rendering.builder import NAMED, Columns, RowTuple
from analysis.rendering.formatting import DAGGER, ENTERS, count_text

FAILED_NOTES = (f"A failed run {ENTERS}.", "'Without failed runs' excludes all of them.")
RUNS_NOTES = ("Min n: number of seeds on the task with the fewest.", "Runs: total over all tasks.")


def name_columns(frame: pd.DataFrame, doubtful: Collection[tuple[str, str]] = ()) -> Columns:
    """A column per name of `by`; a dagger marks a pool's best that is in `doubtful`."""
    names = [str(n) for n in frame if n in ("model", "technique", "configuration")]

    def text(row: RowTuple, name: str) -> str:
        pool = row.model if len(names) > 1 else ""
        best = name == names[-1] and (pool, getattr(row, name)) in doubtful
        return str(getattr(row, name)) + (DAGGER if best else "")

    return {name.capitalize(): partial(text, name=name) for name in names}


def count_columns() -> Columns:
    """Columns with the number of tasks, seeds and runs behind a row."""
    return {
        "Tasks": lambda r: f"{r.tasks}",
        "Min n": lambda r: f"{r.n}",
        "Runs": lambda r: count_text(r.finished, r.asked),
        "Failed": lambda r: f"{r.failed}",
    }


def dropped_notes(frame: pd.DataFrame) -> list[str]:
    """Notes that name the tasks left out, once per distinct set of tasks."""
    if frame.empty:
        return []
    return [
        f"{left_out_text(text, 'Left out')}." for text in frame["dropped_tasks"].unique() if text
    ]


def left_out_text(dropped: str, lead: str) -> str:
    """The tasks left out, grouped by reason, a few of them by name; empty if there are none."""
    tasks: dict[str, list[str]] = {}
    for text in filter(None, dropped.split("; ")):
        task, _, why = text.partition(" (")
        tasks.setdefault(why.removesuffix(")"), []).append(task)
    parts = []
    for why, named in tasks.items():
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        parts.append(f"{', '.join(named[:NAMED])}{more} ({why})")
    return f"{lead}: {', '.join(parts)}" if parts else ""
