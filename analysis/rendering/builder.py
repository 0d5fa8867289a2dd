"""From a frame to a table: columns, captions and notes that tables share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from analysis.rendering.formatting import (
    DAGGER,
    ENTERS,
    NBSP,
    interval_text,
    metric_text,
    score_text,
    score_with_interval,
)
from analysis.rendering.table import Table

RowTuple = Any  # a named tuple that pandas makes of a frame's row

Columns = dict[str, Callable[[RowTuple], str]]  # header: what stands below it

CELL_COLUMNS: Columns = {
    "Task": lambda r: r.task,
    "Model": lambda r: r.model,
    "Configuration": lambda r: r.configuration,
}
POINTS = 100.0  # shares of examples are printed in points
NAMED = 8  # tasks that a caption names before it only counts
NOTHING = "There are no runs yet."
SHARED = ("Task", "Model", "Metric")  # said once, in the caption, where all rows agree

SHARED_COLUMNS: Columns = {
    "Task": lambda r: r.task,
    "Model": lambda r: r.model,
    "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
}
FAILED = f"{DAGGER} a run failed; it {ENTERS}."


def points_text(value: float, low: float, high: float) -> str:
    """A share with its interval, both in points."""
    return score_with_interval(value, low, high, scale=POINTS)


def side_by_side(
    found: pd.DataFrame, rows: list[str], by: str, values: list[Any], *, names: list[str]
) -> pd.DataFrame:
    """One line per `rows`; the columns `names` of each value of `by` get the value's number."""
    wide = found.drop_duplicates(rows).drop(columns=names)
    for place, value in enumerate(values):
        own = found[found[by] == value][[*rows, *names]]
        wide = wide.merge(own.rename(columns={n: f"{n}_{place}" for n in names}), "left", on=rows)
    return wide


def tried_columns(found: pd.DataFrame) -> Columns:
    """A column for how many configurations a choice was made from, where there were choices."""
    searched = not found.empty and (found["tried"] > 1).any()
    return {"Tried": lambda r: f"{r.tried}"} if searched else {}


def tried_notes(found: pd.DataFrame) -> list[str]:
    """What the column of `tried_columns` means, where there is one."""
    text = "Tried: configurations that it was chosen from on dev, on other seeds than these."
    return [text] if tried_columns(found) else []


def table_of(
    name: str,
    title: str,
    found: pd.DataFrame,
    columns: Columns,
    *,
    notes: list[str],
    details: list[str],
    nothing: str = NOTHING,
) -> Table:
    """A table with a line per row of the frame; what all rows share is said in the caption.

    Where there are no rows the caption is `nothing`.
    """
    rows: list[RowTuple] = list(found.itertuples())
    if not rows:
        return Table(name, title, nothing, tuple(columns), (), (), found)
    texts = {header: [text(row) for row in rows] for header, text in columns.items()}
    same = [h for h in SHARED if h in texts and len(set(texts[h])) == 1]
    facts = ", ".join(f"{header.lower()} {texts.pop(header)[0]}" for header in same)
    caption = [f"{facts[0].upper()}{facts[1:]}."] if facts else []
    if "Metric" in texts:  # a terminal leaves it to the caption
        texts["Metric"] = [str(row.metric) for row in rows]
        caption.append(metrics_note(found))
        details = [*details, "Metric"]
    caption += notes
    return Table(
        name=name,
        title=title,
        caption=" ".join(caption),
        header=tuple(texts),
        body=tuple(zip(*texts.values(), strict=True)),
        details=tuple(details),
        frame=found,
    )


def metrics_note(found: pd.DataFrame) -> str:
    """Which metric scores which task, with its direction and unit."""
    tasks: dict[str, list[str]] = {}
    rows: list[RowTuple] = list(found.drop_duplicates("task").itertuples())
    for row in rows:
        named = metric_text(row.metric, row.higher_is_better, scale=row.scale)
        tasks.setdefault(named, []).append(row.task)
    if len(tasks) == 1:
        return f"Metric {next(iter(tasks))}."
    parts = [
        f"{metric} on {', '.join(sorted(names)) if len(names) <= NAMED else f'{len(names)} tasks'}"
        for metric, names in tasks.items()
    ]
    return f"Metrics: {'; '.join(parts)}."


def n_note(found: pd.DataFrame) -> str:
    """How many seeds the numbers rest on; empty of no runs."""
    if found.empty:
        return ""
    low, high = int(found["finished"].min()), int(found["finished"].max())
    runs = f"{low}" if low == high else f"{low} to {high}"
    return f"n, the number of seeds with a result, is {runs}."


def versus_text(row: RowTuple) -> str:
    """The gain over the baseline with its interval, or why there is none."""
    if not row.recommended:
        return "–"
    if row.reason in ("is_baseline", "no_baseline"):
        return "is the baseline" if row.reason == "is_baseline" else "no baseline"
    text = score_text(row.difference, row.scale, sign="+")
    return f"{text} {interval_text(row.difference_low, row.difference_high, scale=row.scale)}"


def grid_table(
    names: tuple[str, str],
    found: pd.DataFrame,
    rows: Columns,
    column: Callable[[RowTuple], str],
    *,
    text: Callable[[RowTuple], str],
    notes: list[str],
) -> Table:
    """A line per group of rows and a column per value, both in the order of the frame.

    Args:
        names: The table's file name and title.
        found: A row per entry of the table.
        rows: What tells lines apart, by header.
        column: Header of the column that a row of the frame stands in.
        text: The entry.
        notes: For the caption, after metrics and n.
    """
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in found.itertuples():
        key = tuple(each(row) for each in rows.values())
        lines.setdefault(key, {})[column(row)] = text(row)
    columns = list(dict.fromkeys(column(row) for row in found.itertuples()))
    if not lines:
        return Table(*names, NOTHING, (*rows, *columns), (), (), found)
    facts = dict(zip(rows, zip(*lines, strict=True), strict=True))
    shared = [h for h in rows if h in SHARED and len(set(facts[h])) == 1 and len(rows) > 1]
    caption = [f"{header} {facts.pop(header)[0]}." for header in shared]
    known = found.dropna(subset="metric")  # a mean over tasks has none
    entries = [tuple(line.get(name, "–") for name in columns) for line in lines.values()]
    heads = zip(*facts.values(), strict=True)
    return Table(
        name=names[0],
        title=names[1],
        caption=" ".join([*caption, metrics_note(known), n_note(known), *notes]),
        header=(*facts, *columns),
        body=tuple((*head, *entry) for head, entry in zip(heads, entries, strict=True)),
        details=(),
        frame=found,
    )


def mean_and_sd_text(row: RowTuple) -> str:
    """Test mean with its sd in brackets, marked if a run failed."""
    shown = score_text(row.test_mean, row.scale)
    sd = "" if np.isnan(row.test_sd) else f"{NBSP}({score_text(row.test_sd, row.scale)})"
    return shown + sd + failed_mark(row)


def failed_mark(row: RowTuple) -> str:
    """A dagger if any run of the cell failed."""
    return DAGGER if row.diverged or row.collapsed else ""
