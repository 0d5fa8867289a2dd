"""Tables of what is compared over several tasks; the numbers are of `across`."""

from collections.abc import Collection
from functools import partial

import pandas as pd

from analysis.rendering.builder import NAMED, Columns, RowTuple
from analysis.rendering.formatting import DAGGER, ENTERS, count_text

FAILED_NOTE = f"A failed run {ENTERS}. 'Not failed' leaves all failed runs out."
RUNS_NOTE = (
    "Least n is the number of seeds of the task with the fewest; runs are those of all tasks."
)


def name_columns(found: pd.DataFrame, doubtful: Collection[tuple[str, str]] = ()) -> Columns:
    """A column per name of `by`; a dagger at the pool's best where that is doubtful."""
    names = [str(n) for n in found if n in ("model", "technique", "configuration")]

    def text(row: RowTuple, name: str) -> str:
        pool = row.model if len(names) > 1 else ""
        best = name == names[-1] and (pool, getattr(row, name)) in doubtful
        return str(getattr(row, name)) + (DAGGER if best else "")

    return {name.capitalize(): partial(text, name=name) for name in names}


def count_columns() -> Columns:
    """How much a row of a comparison over tasks rests on."""
    return {
        "Tasks": lambda r: f"{r.tasks}",
        "Least n": lambda r: f"{r.n}",
        "Runs": lambda r: count_text(r.finished, r.asked),
        "Failed": lambda r: f"{r.failed}",
    }


def dropped_notes(found: pd.DataFrame) -> list[str]:
    """Which tasks are not in it, said once for all rows that lack the same."""
    if found.empty:
        return []
    return [
        f"{left_out_text(text, 'Left out')}." for text in found["dropped_tasks"].unique() if text
    ]


def left_out_text(dropped: str, lead: str) -> str:
    """Tasks that are not in it by reason, a few of them by name; nothing if there are none."""
    tasks: dict[str, list[str]] = {}
    for text in filter(None, dropped.split("; ")):
        task, _, why = text.partition(" (")
        tasks.setdefault(why.removesuffix(")"), []).append(task)
    parts = []
    for why, named in tasks.items():
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        parts.append(f"{', '.join(named[:NAMED])}{more} ({why})")
    return f"{lead}: {', '.join(parts)}" if parts else ""
