"""What was run: the question in a few lines, tables of tasks, models, machines and runs."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

import pandas as pd

from analysis.frames.score_files import UNNAMED
from analysis.rendering.builder import NAMED, RowTuple
from analysis.rendering.formatting import percent_text, score_text
from analysis.rendering.table import Table
from analysis.report.settings import data_of, recipe_line, recipe_table

EXPLAINED = 6  # techniques that are explained at the top; more are in a table
LISTED = 2_000  # runs; more are only in runs.csv, to keep the page fast
UNITS = {"share": "share", "percent": "per cent in the file, read as a share", "own": "its own"}


@dataclass(frozen=True)
class Extras:
    """What a page says of a study in a store beyond the frames of its runs.

    Attributes:
        settings: As `load_settings` gives them, or None.
        other_settings: Those of the study to compare with, or None.
        links: As `load_links` gives them, or None.
        retained: As `load_retained` gives it; empty where nothing was measured.
        ui: Address of MLflow's UI, which `links` continue.
        store: Folder of the store; a page in it has links to the files of runs.
        paste: From the key of a run to the lines of a study file that set its configuration.
        texts: Texts of test examples that may be shown, by task and ID.
        techniques: What each technique does, by its name.
    """

    settings: pd.DataFrame | None = None
    other_settings: pd.DataFrame | None = None
    links: pd.DataFrame | None = None
    retained: pd.DataFrame = field(default_factory=pd.DataFrame)
    ui: str = ""
    store: Path | None = None
    paste: Callable[[str], str] | None = None
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    techniques: Mapping[str, str] = field(default_factory=dict)


def asked(runs: pd.DataFrame, extras: Extras) -> dict[str, str]:
    """What was asked: tasks with rows, models with size, configurations, recipe, seeds."""
    if runs.empty:
        return {}
    tasks = [f"{task}{_in_brackets(_rows(first))}" for task, first in _firsts(runs, "task")]
    models = [f"{model}{_in_brackets(_built(first))}" for model, first in _firsts(runs, "model")]
    seeds = runs.groupby(["task", "model", "configuration"]).size()
    low, high = seeds.min(), seeds.max()
    recipe = "" if extras.settings is None else recipe_line(extras.settings)
    used = _techniques(runs, extras)
    purposes = "; ".join(f"{name}: {text[0].lower()}{text[1:-1]}" for name, text in used.items())
    known = list(runs["model"].unique()) != [UNNAMED]
    return {
        "Tasks": _some(tasks),
        **({"Models": _some(models)} if known else {}),
        "Configurations": _some(sorted(runs["configuration"].unique())),
        **({"Techniques": purposes} if 0 < len(used) <= EXPLAINED else {}),
        **({"Recipe": recipe} if recipe else {}),
        "Seeds": f"{low} per cell" if low == high else f"{low} to {high} per cell",
    }


def _rows(task: Any) -> list[str]:
    sizes = {"training": task.train_rows, "dev": task.dev_rows, "test": task.test_rows}
    known = [f"{int(n):,} {split}" for split, n in sizes.items() if not pd.isna(n)]
    rows = [f"{', '.join(known)} rows"] if known else []
    floor = score_text(task.test_floor, _scale(task))
    return [task.metric, *rows, *([f"a constant answer scores {floor}"] if floor != "–" else [])]


def _built(model: Any) -> list[str]:
    size = model.parameters
    millions = [] if pd.isna(size) else [f"{size / 1e6:.3g} million parameters"]
    return [str(model.family)] * (_text(model.family) != "–") + millions


def _in_brackets(facts: list[str]) -> str:
    return f" ({'; '.join(facts)})" if facts else ""


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _techniques(runs: pd.DataFrame, extras: Extras) -> dict[str, str]:
    """What the techniques of these runs do, by name, as far as known."""
    used = {part.strip() for title in runs["technique"].unique() for part in title.split("+")}
    return {name: text for name, text in extras.techniques.items() if name in used}


def provenance(runs: pd.DataFrame, extras: Extras, folder: Path) -> Iterator[Table]:
    """Tables of the recipe, tasks, models, machines and code, and of all runs.

    Args:
        runs: Checked runs of all stages.
        extras: See there.
        folder: Where the page is; links to files start there.
    """
    if len(ran := _techniques(runs, extras)) > EXPLAINED:
        about = [{"Technique": name, "What it does": text} for name, text in ran.items()]
        yield _facts("techniques", "Techniques", "As `study list techniques` has them.", about)
    settings = extras.settings
    if settings is not None and len(settings):
        yield recipe_table(settings)
    finished = runs[runs["outcome"] != "missing"]
    measured = finished["cut_rows"].notna().any()
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
            **({} if settings is None else data_of(settings, task)),
            **(_cut(finished[finished["task"] == task]) if measured else {}),
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
    yield _listed(runs, extras, folder)


def _cut(runs: pd.DataFrame) -> dict[str, str]:
    """Shares of a task's rows and tokens beyond the maximum length, where that cut most."""
    names = {"Rows cut": "cut_rows", "Tokens cut": "cut_tokens"}
    return {words: percent_text(runs[name].max(), digits=1) for words, name in names.items()}


def _listed(runs: pd.DataFrame, extras: Extras, folder: Path) -> Table:
    """All runs, one a line, with links to MLflow and to their files."""
    if len(runs) > LISTED:
        why = f"The {len(runs):,} runs are in runs.csv beside this page."
        return Table("runs", "Runs", (why,), (), (), (), runs)
    crossed = runs["seed"].isna().any()
    pages, files = _links(extras, folder)
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
            **({"Files": "files" if run.key in files else "–"} if files else {}),
        }
        for run in every
    ]
    notes = ["runs.csv has more about each run."]
    if crossed:
        notes.append("Seed: head, order, noise.")
    if pages:
        notes.append("A key opens its run in MLflow, if that is served (`study ui`).")
    table = _facts("runs", "Runs", " ".join(notes), rows)
    links = {
        (row, table.header.index(column)): own[run.key]
        for column, own in (("Key", pages), ("Files", files))
        for row, run in enumerate(every)
        if run.key in own
    }
    return replace(table, links=links)


def _links(extras: Extras, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """By key the page of each run in MLflow, and its files, relative to a folder in the store.

    Relative links within a store still work when it is moved, and name nobody's home.
    """
    pages: dict[str, str] = {}
    files: dict[str, str] = {}
    here, store = folder.resolve(), (extras.store or folder / "none").resolve()
    inside = here.is_relative_to(store)
    if extras.links is not None:
        for key, page, place in extras.links[["key", "page", "files"]].itertuples(index=False):
            parsed = urlparse(place)
            pages[key] = extras.ui + page
            if parsed.scheme in ("", "file") and inside:
                path = Path(unquote(parsed.path)).resolve()
                if path.is_relative_to(store):
                    files[key] = quote(Path(os.path.relpath(path, here)).as_posix())
    return pages, files


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
