"""Tables as papers print them, with a column per task; the numbers are of `suite` and `tables`."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.frame import BASELINE
from analysis.render import (
    DAGGER,
    ENTERS,
    NBSP,
    SHARED,
    Row,
    Table,
    count_text,
    interval_text,
    metrics_note,
    n_note,
    score_text,
    table_of,
    versus_text,
)

Texts = dict[str, Callable[[Row], str]]  # header: what stands below it

SCATTER = "Mean (sd) of test scores over seeds; the sd has divisor n − 1."
FAILED = f"{DAGGER} a run failed; it {ENTERS}."
RESAMPLED = (
    "Intervals of means over tasks (95%) resample the seeds of all tasks at once; they know "
    "nothing of other tasks, and are a little short where seeds and tasks are few."
)


def suite_table(found: pd.DataFrame) -> Table:
    """Scores over all tasks, as `suite.suite_score` gives them."""
    labels = found["label"].unique()
    same = len(labels) == 1
    columns: Texts = {"Model": lambda r: r.model}
    if "technique" in found:
        columns["Technique"] = lambda r: r.technique
    if "configuration" in found:
        columns["Configuration"] = lambda r: r.configuration
    if not same:
        columns["Score"] = lambda r: r.label
    columns |= {
        f"Test {labels[0]}" if same else "Test": lambda r: score_text(r.test, r.scale),
        "95% of test": lambda r: interval_text(r.test_low, r.test_high, scale=r.scale),
        "Dev": lambda r: score_text(r.dev, r.scale),
        "Tasks": lambda r: f"{r.tasks}",
        "Least n": lambda r: f"{r.n}",
        "Runs": lambda r: count_text(r.finished, r.asked),
        "Failed": lambda r: f"{r.failed}",
    }
    if found["absent"].any():
        columns["No score on"] = lambda r: r.absent.replace("; ", ", ") or "–"
    notes = [
        "In points: the mean over seeds, then over the tasks of a type, then over types; least n "
        "is the number of seeds of the task with the fewest.",
        f"A failed run {ENTERS}.",
        RESAMPLED,
        "By falling dev score.",
    ]
    return table_of("suite", "Over all tasks", found, columns, notes=notes, details=[])


def technique_table(found: pd.DataFrame) -> Table:
    """Models and techniques by tasks, as `suite.by_technique` gives them."""
    labels = found.groupby("technique")["configuration"].unique().to_dict()
    rows: Texts = {
        "Model": lambda r: r.model,
        "Technique": lambda r: (
            labels[r.technique][0] if len(labels[r.technique]) == 1 else r.technique
        ),
    }
    several = any(len(each) > 1 for each in labels.values())
    choice = "A technique's settings are those recommended on dev, for each task and model."
    notes = [SCATTER, *([choice] if several else []), FAILED]
    return _grid(
        ("by_technique", "Techniques by task"),
        found,
        rows,
        lambda r: r.task,
        text=_mean_and_sd,
        notes=notes,
    )


def strategy_table(found: pd.DataFrame) -> Table:
    """The recommended configuration of tasks by models, as `tables.best_strategy` gives it."""
    found = found.sort_values(["family", "model", "task"])

    def text(row: Row) -> str:
        if not row.recommended:
            return "–"
        tied = len(row.tied.split("; ")) if row.tied else 0
        gain = "" if row.reason == "is_baseline" else f" {versus_text(row)}"
        return f"{row.recommended}{gain}" + (f", {tied} level" if tied else "")

    notes = [
        f"Chosen on dev; the gain over {BASELINE} is of test means over seeds, with its 95% Welch "
        "interval, not adjusted for the number of comparisons.",
        "Level: how many other configurations a Welch test does not tell from the best on dev.",
    ]
    return _grid(
        ("strategies", "Best strategy by model family"),
        found,
        {"Task": lambda r: r.task},
        lambda r: f"{r.family}: {r.model}" if r.family else r.model,
        text=text,
        notes=notes,
    )


def pretraining_table(found: pd.DataFrame) -> Table:
    """How models were pretrained by tasks, as `suite.pretraining` gives it."""
    rows: Texts = {
        "Whole-word masking": lambda r: r.whole_word_masking or "–",
        "Next sentence": lambda r: r.next_sentence or "–",
        "Objective": lambda r: r.objective or "–",
        "Vocabulary": lambda r: r.vocabulary or "–",
        "Model": lambda r: r.model,
    }
    return _grid(
        ("pretraining", "Pretraining settings"),
        found,
        rows,
        lambda r: r.task,
        text=_mean_and_sd,
        notes=[f"All by {BASELINE}; a dash where a setting is not known.", SCATTER, FAILED],
    )


def headline_table(found: pd.DataFrame) -> Table:
    """Models at their own best strategies, as `suite.headline` gives them."""
    labels = found.groupby("name")["label"].unique().to_dict()

    def text(row: Row) -> str:
        shown = score_text(row.test, row.scale)
        if row.part == "task":
            return shown + _dagger(row)
        if row.part == "suite" and np.isfinite(row.test_low):
            shown += f" {interval_text(row.test_low, row.test_high, scale=row.scale)}"
        rest = row.label.removeprefix(row.name).strip()
        return f"{shown}, {rest}" if len(labels[row.name]) > 1 and rest else shown

    notes = ["Each task at the configuration recommended on dev; means of test scores over seeds."]
    notes += (
        [RESAMPLED]
        if (found["part"] == "suite").any()
        else ["There is no mean over tasks, since not all metrics are shares."]
    )
    return _grid(
        ("headline", "Models at their best"),
        found,
        {"Model": lambda r: r.model},
        lambda r: labels[r.name][0] if len(labels[r.name]) == 1 else r.name,
        text=text,
        notes=[*notes, FAILED],
    )


def _grid(
    names: tuple[str, str],
    found: pd.DataFrame,
    rows: Texts,
    column: Callable[[Row], str],
    *,
    text: Callable[[Row], str],
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
        return Table(*names, "There are no runs yet.", (*rows, *columns), (), (), found)
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


def _mean_and_sd(row: Row) -> str:
    shown = score_text(row.test_mean, row.scale)
    sd = "" if np.isnan(row.test_sd) else f"{NBSP}({score_text(row.test_sd, row.scale)})"
    return shown + sd + _dagger(row)


def _dagger(row: Row) -> str:
    return DAGGER if row.diverged or row.collapsed else ""
