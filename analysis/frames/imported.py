"""Scores from elsewhere as a frame of runs: a file of one's own, or AMLB's, W&B's, peft's, TabM's.

A file is told by its columns. Whatever is wrong with it is said at once, with row and column.
"""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.columns import COLUMNS, RUN_COUNTS, RUN_NUMBERS, STREAMS
from analysis.frames.layouts import STUDY, layout_of, read_peft
from analysis.frames.runs import (
    BASELINE,
    CELL,
    ScoreFileError,
    checked,
    with_current_names,
)

ROLES = {
    "task": "what was learnt",
    "model": "the pretrained model",
    "technique": "the way of fine-tuning",
    "configuration": "settings beside the technique, several with commas between",
    "seed": "whole number that tells the runs of a cell apart; without it no two share a seed",
    "test": "score on test",
    "dev": "score on dev, which choices are made by",
    "metric": "the metric's name",
    "floor": "score of a constant answer",
    "status": "whether the run came to its end",
    "seconds": "duration of the run",
    "memory": "peak memory in bytes",
    "device": "what it ran on",
}
REQUIRED = ("task", "technique", "test")
ABSENT = "–"  # the text of a column that should be there
UNNAMED = "unnamed"  # the model of a file that names none
LOWER = {  # metrics of which less is better, whatever the command line says
    *("rmse", "mse", "mae", "mape", "msle", "rmsle", "loss", "log_loss", "logloss", "nll"),
    *("error", "error_rate", "perplexity", "wer", "cer", "brier", "ece"),
}
COMPLETED = {"", "completed", "complete", "finished", "success", "succeeded", "ok", "done"}
DIVERGED = {"diverged", "nan"}
UNFINISHED = {
    *("missing", "failed", "crashed", "killed", "error", "timeout", "preempted", "preempting"),
    *("running", "pending", "canceled", "cancelled"),
}
NOTHING = {"", "-", ABSENT, "?", "na", "n/a", "none", "null"}  # of a score that is not there
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".json", ".parquet")
TRUTHS = ("higher_is_better", "collapsed", "dirty")  # columns of yes and no
NAMED = 5  # mistakes of a kind that are told one by one


def read_scores(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    lower_is_better: Iterable[str] = (),
    baseline: str = "",
) -> pd.DataFrame:
    """The runs in a file of scores.

    Args:
        path: A CSV (tab-separated where it ends so, perhaps gzipped), with a header and a row per
            run; `runs.csv` or `runs.parquet` of a report; a JSON file of peft, or a folder of them.
        columns: Of each role in `ROLES` the column that holds it, or `=` and a text that holds for
            all rows, such as `{"task": "=rte"}`. A role that is not named is the column of that
            name, if there is one; task, technique and test there must be.
        lower_is_better: Metrics of which less is better, beside `LOWER`.
        baseline: The technique, or configuration, to compare the others with; it is then shown as
            `Standard (NAME)`. Not needed for one that is called `Standard`.

    Returns:
        Checked runs with the columns of `load_runs`, the study named after the file. A run without
        a score is missing, and so is one whose status says that it never came to its end, whatever
        it had logged. A score that is written as `nan` or `inf` makes it a diverged one. Which runs
        collapsed, no file says.

    Raises:
        ScoreFileError: With every mistake in the file, and in what it is said to hold.

    Layouts that are told by their columns, each as of the version named:
        AMLB 2.1 (`results.csv`): the folds are what scatters; `result` is so signed that higher is
        better. Differs: a framework that failed has no score, where AMLB's papers put that of a
        constant answer. W&B (runs table, exported as CSV in 2025): name the columns of task,
        technique and test. peft 0.19 (`method_comparison/*/results/*.json`): dev is the last
        accuracy on the validation rows, the task is the folder above `results`. TabM: the columns
        `dev_score` and `test_score`.
    """
    path = Path(path)
    table = _read(path)
    layout = layout_of(table, path)
    if layout is STUDY:
        table = with_current_names(table)
    if layout is STUDY and not columns:
        frame, mistakes = _of_a_study(table), []
        if set(lower_is_better):
            mistakes.append("the file says itself of which metrics less is better.")
        mistakes += _based(frame, baseline)
    else:
        frame, mistakes = _frame(
            table, {**layout.columns, **(columns or {})}, named=set(columns or {})
        )
        frame["study"] = path.name.partition(".")[0]
        mistakes += _directed(frame, set(lower_is_better))
        if not (frame[["task", "technique"]] == ABSENT).any(axis=None):
            mistakes += _based(frame, baseline)
            mistakes += _repeated(frame)
        frame["cell"] = frame["task"] + "/" + frame["model"] + "/" + frame["configuration"]
        frame["key"] = "" if mistakes else _keys(frame)
    try:
        frame = checked(frame.reindex(columns=COLUMNS))
    except ScoreFileError as error:
        mistakes += error.mistakes
    if mistakes:
        raise ScoreFileError([f"{path.name}: {mistake}" for mistake in mistakes])
    return frame


def example_runs() -> pd.DataFrame:
    """Real runs to try things on: 4 pretrained models × 21 text tasks × 20 seeds, no dev scores.

    Source: IBM/model-recycling, Apache-2.0; `analysis/examples/README.md` says what was changed.
    """
    with as_file(files("analysis").joinpath("examples", "model_recycling.csv")) as path:
        return read_scores(path, {"technique": f"={BASELINE}", "metric": "=accuracy"})


def holds_scores(name: str) -> bool:
    """Whether that is a file of scores, or a folder of them, not the name of a study."""
    return name.endswith(ENDINGS) or Path(name).is_dir()


# --- reading ----------------------------------------------------------------------------------


def _read(path: Path) -> pd.DataFrame:
    """The file as text, one row per run; indexed by row, from 1 below the header."""
    try:
        if path.is_dir() or path.suffix == ".json":
            table = read_peft(path)
        elif path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            separator = "\t" if ".tsv" in path.suffixes else ","
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except ScoreFileError:
        raise
    except FileNotFoundError:
        raise ScoreFileError([f"there is no file {str(path)!r}."]) from None
    except (ValueError, OSError) as error:  # pandas' own are ValueErrors: no rows, ragged rows
        raise ScoreFileError([f"{path.name} cannot be read as a table: {error}"]) from None
    if table.empty:
        raise ScoreFileError([f"{path.name} has no rows."])
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table.rename(columns=lambda name: str(name).strip().removeprefix("\ufeff"))


# --- from text to runs ------------------------------------------------------------------------


def _frame(
    table: pd.DataFrame, given: Mapping[str, str], *, named: set[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Runs by role, with what is wrong with them."""
    texts, mistakes = _texts(table, given, named=named)
    frame = pd.DataFrame(index=table.index)
    for role in ("task", "technique"):
        frame[role] = texts[role]
        mistakes += _rows(texts[role] == "", texts[role], f"the {role} is empty")
    frame["model"] = texts["model"].replace("", UNNAMED)
    frame["configuration"] = frame["technique"] + texts["configuration"]
    frame["metric"] = texts["metric"].replace("", None)
    frame["device"] = texts["device"]
    known: dict[str, pd.Series] = {}
    for role in ("test", "dev", "floor", "seconds", "memory", "seed"):
        known[role], wrong = _numbers(texts[role], role)
        mistakes += wrong
    frame["test_floor"] = frame["dev_floor"] = known["floor"]
    frame["seconds"], frame["peak_memory_bytes"] = known["seconds"], known["memory"]
    frame["outcome"], wrong = _outcomes(texts, known)
    mistakes += wrong
    for split in ("dev", "test"):
        frame[split] = known[split].where(frame["outcome"] == "completed")
    seed = known["seed"].where(known["seed"] % 1 == 0)
    there = ~texts["seed"].str.lower().isin(NOTHING)
    mistakes += _rows(there & seed.isna() & known["seed"].notna(), texts["seed"], "is not whole")
    if there.any():
        mistakes += _rows(~there, texts["seed"], "the seed is empty")
    else:
        seed = pd.Series(np.arange(len(frame), dtype=float), frame.index)
    for stream in ("seed", "head", "order", "noise"):
        frame[stream] = seed.astype("Int64")
    return frame, mistakes


def _texts(
    table: pd.DataFrame, given: Mapping[str, str], *, named: set[str]
) -> tuple[dict[str, pd.Series], list[str]]:
    """The text of every role, empty where the file has none."""
    texts, mistakes = {}, []
    nothing = pd.Series("", table.index)
    for role in ROLES:
        place = given.get(role, role)
        texts[role] = nothing
        if not place:
            continue
        if place.startswith("="):
            texts[role] = nothing + place[1:].strip()
        elif role == "configuration":
            parts = [each.strip() for each in place.split(",")]
            wanted = parts if role in named else [each for each in parts if each in table]
            wrong = [_unknown(each, role, table) for each in wanted if each not in table]
            mistakes += wrong
            if wanted and not wrong:
                settings = nothing
                for name in wanted:
                    settings = settings + f", {name}=" + table[name].astype(str).str.strip()
                texts[role] = "(" + settings.str.removeprefix(", ") + ")"
        elif place in table:
            texts[role] = table[place].astype(str).str.strip()
        elif role in REQUIRED or role in named:
            mistakes.append(_unknown(place, role, table))
            texts[role] = nothing + ABSENT  # so that no row is called wrong as well
    return texts, mistakes


def _unknown(column: str, role: str, table: pd.DataFrame) -> str:
    near = difflib.get_close_matches(column, table.columns, n=1)
    found = ", ".join(map(repr, table.columns[:12])) + (", …" if table.shape[1] > 12 else "")
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {found}."
    return (
        f"there is no column {column!r} for the {role} ({ROLES[role]}). {hint} "
        f"Name it with --{role} COLUMN, or its text for all rows with --{role} =TEXT."
    )


def _numbers(texts: pd.Series, role: str) -> tuple[pd.Series, list[str]]:
    there = texts.where(~texts.str.lower().isin(NOTHING))
    numbers = pd.to_numeric(there, errors="coerce").astype(float)
    written = there.str.lower().str.lstrip("+-").isin(["nan", "inf", "infinity"])
    wrong = there.notna() & numbers.isna() & ~written
    return numbers, _rows(wrong, texts, f"the {role} is not a number")


def _outcomes(
    texts: Mapping[str, pd.Series], known: Mapping[str, pd.Series]
) -> tuple[pd.Series, list[str]]:
    """What became of each run, by its status and by what stands where its scores should."""
    status = texts["status"].str.lower()
    blank = {split: texts[split].str.lower().isin(NOTHING) for split in ("dev", "test")}
    broken = status.isin(DIVERGED)
    for split in ("dev", "test"):
        broken = broken | (~blank[split] & ~known[split].abs().lt(np.inf))  # nor is NaN below it
    unfinished = status.isin(UNFINISHED) | (blank["dev"] & blank["test"] & ~broken)
    outcome = pd.Series("completed", status.index)
    outcome = outcome.mask(broken, "diverged").mask(unfinished, "missing")
    unknown = ~status.isin(COMPLETED | DIVERGED | UNFINISHED)
    words = "the status is none of completed, diverged, missing, failed, crashed and their like"
    return outcome, _rows(unknown, texts["status"], words)


def _rows(wrong: pd.Series, texts: pd.Series, words: str) -> list[str]:
    """A mistake per wrong row, the first few by name."""
    rows = list(texts.index[wrong])
    column = f", {texts.name}" if texts.name else ""
    found = [f"row {row}{column}: {texts[row]!r}, {words}." for row in rows[:NAMED]]
    if len(rows) > NAMED:
        found.append(f"{words}: in {len(rows) - NAMED} more rows.")
    return found


def _directed(frame: pd.DataFrame, lower: set[str]) -> list[str]:
    """Say of every run whether higher is better; names a metric that no run has."""
    metrics = set(frame["metric"].dropna())
    frame["metric"] = frame["metric"].fillna("score")
    frame["higher_is_better"] = ~frame["metric"].isin(
        lower | {metric for metric in metrics if metric.lower().replace(" ", "_") in LOWER}
    )
    found = sorted(set(frame["metric"]))
    return [f"no run has the metric {each!r}. {_near(each, found)}" for each in lower - set(found)]


def _based(frame: pd.DataFrame, baseline: str) -> list[str]:
    """Call the baseline what every table calls it."""
    if not baseline:
        return []
    own = (frame["technique"] == baseline) | (frame["configuration"] == baseline)
    labels = sorted(frame.loc[own, "configuration"].unique())
    if not labels:
        there = sorted({*frame["technique"], *frame["configuration"]})
        return [f"no run is of the baseline {baseline!r}. {_near(baseline, there)}"]
    if len(labels) > 1:
        some = ", ".join(labels[:NAMED])
        return [f"the baseline {baseline!r} has several configurations; name one of {some}."]
    frame.loc[own, "technique"] = BASELINE
    frame.loc[own, "configuration"] = f"{BASELINE} ({labels[0]})"
    return []


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(known[:12])}."


def _repeated(frame: pd.DataFrame) -> list[str]:
    twice = frame[frame.duplicated([*CELL, "seed"], keep=False) & frame["seed"].notna()]
    found = [
        f"rows {', '.join(map(str, part.index[:NAMED]))} are the same run: "
        f"{'/'.join(map(str, label))}, seed {seed}. What tells them apart can be named with "
        "--configuration."
        for (*label, seed), part in list(twice.groupby([*CELL, "seed"]))[:NAMED]
    ]
    more = twice[[*CELL, "seed"]].drop_duplicates().shape[0] - len(found)
    return [*found, *([f"and {more} more runs stand more than once."] if more > 0 else [])]


def _keys(frame: pd.DataFrame) -> list[str]:
    """Of the same run in two files the same key."""
    facts = [frame[name].map(str) for name in [*CELL, "seed", "dev", "test"]]
    return [
        hashlib.sha256("\x1f".join(each).encode()).hexdigest()[:12]
        for each in zip(*facts, strict=True)
    ]


def _of_a_study(table: pd.DataFrame) -> pd.DataFrame:
    """What a report wrote as CSV, with its types again; what is no number is left for `checked`."""
    counts = [*STREAMS, *RUN_COUNTS, "seed", "tried", "parameters"]
    yes = {"True": True, "False": False}
    typed: dict[str, Any] = {
        name: table[name].map(yes) for name in TRUTHS if table[name].dtype != bool
    }
    for name in (each for each in [*counts, *RUN_NUMBERS] if each in table):
        found = table[name].replace("", None)
        try:
            typed[name] = pd.to_numeric(found).astype("Int64" if name in counts else "float64")
        except (TypeError, ValueError):
            typed[name] = found
    return table.assign(**typed)
