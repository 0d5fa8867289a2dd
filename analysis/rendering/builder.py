"""Build tables from frames: shared columns, captions and notes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.rendering.formatting import (
    DAGGER,
    ENTERS,
    NBSP,
    PERMUTATION,
    interval_text,
    metric_text,
    score_text,
    score_with_interval,
    sd_text,
)
from analysis.rendering.table import Table

RowTuple = Any  # a named tuple that pandas makes of a frame's row

Columns = dict[str, Callable[[RowTuple], str]]  # header to the text of an entry

CELL_COLUMNS: Columns = {
    "Task": lambda r: r.task,
    "Model": lambda r: r.model,
    "Configuration": lambda r: r.configuration,
}
POINTS = 100.0  # proportions of examples are printed in percentage points
NAMED = 8  # at most this many task names in a caption; above that, their number
NOTHING = "There are no runs yet."
SHARED = ("Task", "Model", "Metric")  # moved into the caption if all rows agree

SHARED_COLUMNS: Columns = {
    "Task": lambda r: r.task,
    "Model": lambda r: r.model,
    "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
}
FAILED = f"{DAGGER} a run failed; it {ENTERS}."


def points_text(value: float, low: float, high: float) -> str:
    """A proportion with its interval, both in percentage points."""
    return score_with_interval(value, low, high, scale=POINTS)


def side_by_side(
    found: pd.DataFrame, rows: list[str], by: str, values: list[Any], *, names: list[str]
) -> pd.DataFrame:
    """Pivot a frame to wide format.

    Args:
        found: One row per combination of `rows` and a value of `by`.
        rows: Columns that identify a row of the result.
        by: The column to spread.
        values: Its values, in order.
        names: Columns to repeat per value, with the position of the value as suffix: `name_0`, ….
    """
    wide = found.drop_duplicates(rows).drop(columns=names)
    for i, value in enumerate(values):
        own = found[found[by] == value][[*rows, *names]]
        wide = wide.merge(own.rename(columns={n: f"{n}_{i}" for n in names}), "left", on=rows)
    return wide


def tried_columns(found: pd.DataFrame) -> Columns:
    """A column with the number of configurations tried, if any cell was searched."""
    searched = not found.empty and (found["tried"] > 1).any()
    return {"Tried": lambda r: f"{r.tried}"} if searched else {}


def tried_notes(found: pd.DataFrame) -> list[str]:
    """The note for the column of `tried_columns`, if there is one."""
    text = "Tried: number of configurations it was selected from, on dev and with other seeds."
    return [text] if tried_columns(found) else []


def table_of(
    name: str,
    title: str,
    found: pd.DataFrame,
    columns: Columns,
    *,
    notes: list[str],
    details: list[str],
    method: Sequence[str] = (),
    nothing: str = NOTHING,
) -> Table:
    """Build a table with one line per row of a frame.

    Task, model and metric move into the caption if all rows agree.

    Args:
        name: File name without extension.
        title: Short title.
        found: One row per line.
        columns: Header and text of each column.
        notes: The short caption, after these; see `Table`.
        details: Headers that the terminal leaves out.
        method: The rest of the caption.
        nothing: Caption of a table without rows.
    """
    rows: list[RowTuple] = list(found.itertuples())
    if not rows:
        return Table(name, title, (nothing,), tuple(columns), (), (), found)
    texts = {header: [text(row) for row in rows] for header, text in columns.items()}
    same = [h for h in SHARED if h in texts and len(set(texts[h])) == 1]
    facts = ", ".join(f"{header.lower()} {texts.pop(header)[0]}" for header in same)
    caption = [f"{facts[0].upper()}{facts[1:]}."] if facts else []
    if "Metric" in texts:  # shortened, since the caption has direction and unit
        texts["Metric"] = [str(row.metric) for row in rows]
        caption.append(metrics_note(found))
        details = [*details, "Metric"]
    return Table(
        name=name,
        title=title,
        notes=(*caption, *notes),
        header=tuple(texts),
        body=tuple(zip(*texts.values(), strict=True)),
        details=tuple(details),
        frame=found,
        method=tuple(method),
    )


def metrics_note(found: pd.DataFrame) -> str:
    """The metric of each task, with direction and unit, as a caption sentence."""
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
    """The number of seeds behind the results, as a caption sentence; empty without runs."""
    if found.empty:
        return ""
    low, high = int(found["finished"].min()), int(found["finished"].max())
    runs = f"{low}" if low == high else f"{low} to {high}"
    return f"n, the number of seeds with a result, is {runs}."


def starred_notes(found: pd.DataFrame) -> list[str]:
    """The note on p-values with a star, if there are any."""
    starred = not found.empty and (found["method"] == "permutation").any()
    return [f"* where runs failed: {PERMUTATION}."] if starred else []


def direction_notes(found: pd.DataFrame) -> list[str]:
    """The metrics of the tasks, their direction, and where it comes from."""
    facts = found[["metric", "higher_is_better", "direction_from"]].drop_duplicates()
    named = [
        f"{row.metric} ({'higher' if row.higher_is_better else 'lower'} is better, "
        f"{row.direction_from})"
        for row in facts.itertuples()
    ]
    return [f"{'Metric' if len(named) == 1 else 'Metrics'}: {', '.join(named)}."] if named else []


def by_dev_note(values: pd.Series, name: str) -> str:
    """How rows are sorted: by dev score or mean, or by name where there is none."""
    if values.notna().any():
        return f"Sorted by dev {name}, best first."
    return "Sorted by name, since there are no dev scores."


def floor_notes(found: pd.DataFrame) -> list[str]:
    """Says that collapsed runs are unknown, where the score of a constant predictor is."""
    if found.empty or found["floor_known"].all():
        return []
    where = "" if not found["floor_known"].any() else " for some tasks"
    return [
        f"The score of a constant predictor is unknown{where}, so only diverged runs count as "
        "failed there."
    ]


def versus_text(row: RowTuple) -> str:
    """The difference to the baseline with its interval, or why there is none."""
    if not row.recommended:
        return "–"
    if row.reason in ("is_baseline", "no_baseline"):
        return "is the baseline" if row.reason == "is_baseline" else "no baseline"
    if np.isnan(row.difference):
        return "–"
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
    method: Sequence[str] = (),
) -> Table:
    """Build a cross table from a frame in long format; both axes keep the order of the frame.

    Args:
        names: File name and title.
        found: One row per entry of the table.
        rows: Header and text of the columns that identify a line.
        column: Header of the column of an entry.
        text: Text of an entry.
        notes: The short caption, after metrics and n.
        method: The rest of the caption.
    """
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in found.itertuples():
        key = tuple(label(row) for label in rows.values())
        lines.setdefault(key, {})[column(row)] = text(row)
    columns = list(dict.fromkeys(column(row) for row in found.itertuples()))
    if not lines:
        return Table(*names, (NOTHING,), (*rows, *columns), (), (), found)
    facts = dict(zip(rows, zip(*lines, strict=True), strict=True))
    shared = [h for h in rows if h in SHARED and len(set(facts[h])) == 1 and len(rows) > 1]
    caption = [f"{header} {facts.pop(header)[0]}." for header in shared]
    known = found.dropna(subset="metric")  # a mean over tasks has no metric
    entries = [tuple(line.get(name, "–") for name in columns) for line in lines.values()]
    heads = zip(*facts.values(), strict=True)
    return Table(
        name=names[0],
        title=names[1],
        notes=(*caption, metrics_note(known), n_note(known), *notes),
        header=(*facts, *columns),
        body=tuple((*head, *entry) for head, entry in zip(heads, entries, strict=True)),
        details=(),
        frame=found,
        method=tuple(method),
    )


def mean_and_sd_text(row: RowTuple) -> str:
    """Test mean with its standard deviation in brackets, marked if a run failed."""
    shown = score_text(row.test_mean, row.scale)
    sd = "" if np.isnan(row.test_sd) else f"{NBSP}({sd_text(row.test_sd, row.scale)})"
    return shown + sd + failed_mark(row)


def failed_mark(row: RowTuple) -> str:
    """A dagger if any run of the cell failed."""
    return DAGGER if row.diverged or row.collapsed else ""
