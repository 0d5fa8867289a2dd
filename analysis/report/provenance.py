"""What was run: the question in a few lines, tables of tasks, models, machines and runs."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.rendering.builder import NAMED, RowTuple
from analysis.rendering.formatting import score_text
from analysis.rendering.table import Table

LISTED = 2_000  # runs; more are only in runs.csv, to keep the page fast
UNITS = {"share": "share", "percent": "per cent in the file, read as a share", "own": "its own"}


def asked(runs: pd.DataFrame) -> dict[str, str]:
    """What was asked: tasks with their rows, models with their size, configurations, seeds."""
    if runs.empty:
        return {}
    tasks = [f"{task}{_in_brackets(_rows(first))}" for task, first in _firsts(runs, "task")]
    models = [f"{model}{_in_brackets(_built(first))}" for model, first in _firsts(runs, "model")]
    seeds = runs.groupby(["task", "model", "configuration"]).size()
    low, high = seeds.min(), seeds.max()
    return {
        "Tasks": _some(tasks),
        "Models": _some(models),
        "Configurations": _some(sorted(runs["configuration"].unique())),
        "Seeds": f"{low} per cell" if low == high else f"{low} to {high} per cell",
    }


def _rows(task: Any) -> list[str]:
    sizes = {"training": task.train_rows, "dev": task.dev_rows, "test": task.test_rows}
    known = [f"{int(n):,} {split}" for split, n in sizes.items() if not pd.isna(n)]
    return [task.metric, *([f"{', '.join(known)} rows"] if known else [])]


def _built(model: Any) -> list[str]:
    size = model.parameters
    millions = [] if pd.isna(size) else [f"{size / 1e6:.3g} million parameters"]
    return [str(model.family)] * (_text(model.family) != "–") + millions


def _in_brackets(facts: list[str]) -> str:
    return f" ({'; '.join(facts)})" if facts else ""


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def provenance(runs: pd.DataFrame) -> Iterator[Table]:
    """Tables of tasks, models, machines and code, and of all runs."""
    finished = runs[runs["outcome"] != "missing"]
    tasks = [
        {
            "Task": task,
            "Metric": first.metric,
            "Better": "higher" if first.higher_is_better else "lower",
            "Better according to": first.direction_from,
            "Unit": UNITS[first.unit],
            "Constant predictor, dev": score_text(first.dev_floor, _scale(first)),
            "Constant predictor, test": score_text(first.test_floor, _scale(first)),
            "Training rows": _count(first.train_rows),
            "Dev rows": _count(first.dev_rows),
            "Test rows": _count(first.test_rows),
        }
        for task, first in _firsts(runs, "task")
    ]
    yield _facts("tasks", "Tasks", "Shares in points, other scores in their own unit.", tasks)
    models = [
        {
            "Model": model,
            "Family": _text(first.family),
            "Parameters": _count(first.parameters),
            "Domain": _text(first.domain),
            "Vocabulary": _text(first.vocabulary),
            "Objective": _text(first.objective),
            "Whole-word masking": _text(first.whole_word_masking),
            "Next sentence": _text(first.next_sentence),
        }
        for model, first in _firsts(runs, "model")
    ]
    yield _facts("models", "Models", "Pretraining, as far as known.", models)
    origin = ["device", "host", "versions", "commit", "dirty"]
    machines = [
        {
            "Device": _text(device),
            "Host": _text(host),
            "Versions": _text(versions),
            "Commit": _text(commit) + (" with uncommitted changes" if dirty is True else ""),
            "Runs": str(len(part)),
            "Hours": f"{part['seconds'].sum() / 3600:.2f}",
            "Peak memory, GB": _gigabytes(part["peak_memory_bytes"]),
        }
        for (device, host, versions, commit, dirty), part in finished.groupby(origin, dropna=False)
    ]
    yield _facts("machines", "Machines and code", "Hours are the sum over runs.", machines)
    yield _listed(runs)


def _listed(runs: pd.DataFrame) -> Table:
    """All runs, one a line."""
    if len(runs) > LISTED:
        why = f"The {len(runs):,} runs are in runs.csv beside this page."
        return Table("runs", "Runs", (why,), (), (), (), runs)
    crossed = runs["seed"].isna().any()
    every: list[RowTuple] = list(runs.itertuples())
    rows = [
        {
            "Task": run.task,
            "Model": run.model,
            "Configuration": run.configuration,
            "Seed": f"{run.head}, {run.order}, {run.noise}" if crossed else _count(run.seed),
            "Outcome": "collapsed" if run.collapsed else run.outcome,
            "Dev": score_text(run.dev, _scale(run)),
            "Test": score_text(run.test, _scale(run)),
            "Seconds": "–" if pd.isna(run.seconds) else f"{run.seconds:.3g}",
            "Key": _text(run.key),
        }
        for run in every
    ]
    seeds = ["Seed: head, order, noise."] if crossed else []
    return _facts("runs", "Runs", " ".join([*seeds, "runs.csv has more about each run."]), rows)


def _scale(run: Any) -> float:
    """The factor by which scores are multiplied: 100 for shares, so that they are in points."""
    return 1.0 if run.unit == "own" else 100.0


def _facts(name: str, title: str, caption: str, rows: list[dict[str, str]]) -> Table:
    """A table without the columns that are unknown in every row, which the caption names."""
    columns = list(rows[0]) if rows else []
    header = tuple(column for column in columns if any(row[column] != "–" for row in rows))
    unknown = [column for column in columns if column not in header]
    notes: tuple[str, ...] = (caption,)
    if unknown:
        notes = (caption, f"Unknown throughout: {', '.join(unknown)}.")
    body = tuple(tuple(row[column] for column in header) for row in rows)
    return Table(name, title, notes, header, body, (), pd.DataFrame(rows))


def _text(value: Any) -> str:
    return "–" if pd.isna(value) or value == "" else str(value)


def _count(value: Any) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}"


def _gigabytes(peaks: pd.Series) -> str:
    peak = peaks.max()
    return "–" if pd.isna(peak) else f"{peak / 1e9:.2f}"


def _firsts(runs: pd.DataFrame, column: str) -> Iterator[tuple[str, Any]]:
    """Each value of a column with the first known value of every other column."""
    yield from ((str(name), row) for name, row in runs.groupby(column).first().iterrows())
