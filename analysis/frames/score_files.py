"""Import score files as a frame of runs: plain CSV, AMLB, W&B, peft or TabM.

The columns of a file determine its layout. All mistakes are reported together, with row and column.
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
    "task": "the task or data set",
    "model": "the pretrained model",
    "technique": "the fine-tuning technique",
    "configuration": "further settings, several separated by commas",
    "seed": "integer that distinguishes the runs of a cell; without it nothing is paired",
    "test": "test score",
    "dev": "dev score, used for selection",
    "metric": "the metric's name",
    "floor": "score of the constant predictor",
    "status": "whether the run finished",
    "seconds": "duration of the run",
    "memory": "peak memory in bytes",
    "device": "hardware of the run",
}
REQUIRED = ("task", "technique", "test")
ABSENT = "–"  # placeholder text of a required column that the file lacks
UNNAMED = "unnamed"  # model of a file without a model column
LOWER = {  # metrics that are always lower-is-better
    *("rmse", "mse", "mae", "mape", "msle", "rmsle", "loss", "log_loss", "logloss", "nll"),
    *("error", "error_rate", "perplexity", "wer", "cer", "brier", "ece"),
}
COMPLETED = {"", "completed", "complete", "finished", "success", "succeeded", "ok", "done"}
DIVERGED = {"diverged", "nan"}
UNFINISHED = {
    *("missing", "failed", "crashed", "killed", "error", "timeout", "preempted", "preempting"),
    *("running", "pending", "canceled", "cancelled"),
}
NOTHING = {"", "-", ABSENT, "?", "na", "n/a", "none", "null"}  # texts of a missing value
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".json", ".parquet")
BOOLEANS = ("higher_is_better", "collapsed", "dirty")
NAMED = 5  # mistakes of a kind that are listed one by one; the others are counted


def read_scores(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    lower_is_better: Iterable[str] = (),
    baseline: str = "",
) -> pd.DataFrame:
    """Read the runs in a file of scores.

    Args:
        path: A CSV or TSV file (gzip allowed) with a header and one row per run; `runs.csv` or
            `runs.parquet` of a report; a JSON file of peft, or a folder of them.
        columns: Maps a role in `ROLES` to its column, or to `=` and a text for all rows, such as
            `{"task": "=rte"}`. A role that is not given defaults to the column of its own name.
            Task, technique and test are required.
        lower_is_better: Lower-is-better metrics, beside `LOWER`.
        baseline: The technique, or configuration, to compare the others with; it is then shown as
            `Standard (NAME)`. Not needed if the baseline is called `Standard`.

    Returns:
        Checked runs with the columns of `load_runs`; the study is named after the file. A run is
        missing if it has no score, or if its status says that it did not finish, even if it
        logged scores. A score of `nan` or `inf` makes it diverged. No file says which runs
        collapsed.

    Raises:
        ScoreFileError: With every mistake in the file and in the arguments.

    The columns determine these layouts, each as of the version named:
        AMLB 2.1 (`results.csv`): folds take the place of seeds; `result` is signed such that
        higher is better. Differs: a framework that failed has no score, where AMLB's papers impute
        that of a constant predictor. W&B (runs table, exported as CSV in 2025): name the columns
        of task, technique and test. peft 0.19 (`method_comparison/*/results/*.json`): dev is the
        last validation accuracy; the task is the folder above `results`. TabM: the columns
        `dev_score` and `test_score`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "scores.csv")
        >>> table = pd.DataFrame({"technique": "lora", "seed": [0, 1], "acc": ["0.81", "nan"]})
        >>> table.to_csv(path, index=False)
        >>> runs = read_scores(path, {"task": "=rte", "test": "acc", "metric": "=accuracy"})
        >>> runs[["task", "technique", "seed", "test", "outcome"]]
          task technique  seed  test    outcome
        0  rte      lora     0  0.81  completed
        1  rte      lora     1   NaN   diverged
    """
    path = Path(path)
    table = _read(path)
    layout = layout_of(table, path)
    if layout is STUDY:
        table = with_current_names(table)
    if layout is STUDY and not columns:
        frame, mistakes = _of_a_study(table), []
        if set(lower_is_better):
            mistakes.append("this file already says which metrics are lower-is-better.")
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
    """Load real example runs: 4 pretrained models × 21 text tasks × 20 seeds, no dev scores.

    Returns:
        1,680 checked runs with the columns of `load_runs`.

    Source: IBM/model-recycling, Apache-2.0; `analysis/examples/README.md` says what was changed.

    Example:
        >>> runs = example_runs()
        >>> len(runs), runs["task"].nunique(), runs["model"].nunique()
        (1680, 21, 4)
    """
    with as_file(files("analysis").joinpath("examples", "model_recycling.csv")) as path:
        return read_scores(path, {"technique": f"={BASELINE}", "metric": "=accuracy"})


def holds_scores(name: str) -> bool:
    """Whether the name is that of a score file or folder rather than of a study."""
    return name.endswith(ENDINGS) or Path(name).is_dir()


# --- reading ----------------------------------------------------------------------------------


def _read(path: Path) -> pd.DataFrame:
    """Read the file as text, one row per run; the index counts data rows from 1."""
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
    """Build the frame of runs from the columns of each role; also returns the mistakes."""
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
    given_seed = ~texts["seed"].str.lower().isin(NOTHING)
    fractional = given_seed & seed.isna() & known["seed"].notna()
    mistakes += _rows(fractional, texts["seed"], "the seed is not an integer")
    if given_seed.any():
        mistakes += _rows(~given_seed, texts["seed"], "the seed is empty")
    else:  # every run gets a seed of its own, so that nothing is paired
        seed = pd.Series(np.arange(len(frame), dtype=float), frame.index)
    for stream in ("seed", "head", "order", "noise"):
        frame[stream] = seed.astype("Int64")
    return frame, mistakes


def _texts(
    table: pd.DataFrame, given: Mapping[str, str], *, named: set[str]
) -> tuple[dict[str, pd.Series], list[str]]:
    """The text of every role, empty where the file has no such column."""
    texts, mistakes = {}, []
    nothing = pd.Series("", table.index)
    for role in ROLES:
        column = given.get(role, role)
        texts[role] = nothing
        if not column:
            continue
        if column.startswith("="):
            texts[role] = nothing + column[1:].strip()
        elif role == "configuration":
            parts = [part.strip() for part in column.split(",")]
            wanted = parts if role in named else [part for part in parts if part in table]
            wrong = [_unknown(part, role, table) for part in wanted if part not in table]
            mistakes += wrong
            if wanted and not wrong:
                settings = nothing
                for name in wanted:
                    settings = settings + f", {name}=" + table[name].astype(str).str.strip()
                texts[role] = "(" + settings.str.removeprefix(", ") + ")"
        elif column in table:
            texts[role] = table[column].astype(str).str.strip()
        elif role in REQUIRED or role in named:
            mistakes.append(_unknown(column, role, table))
            texts[role] = nothing + ABSENT  # avoids a second message for every row
    return texts, mistakes


def _unknown(column: str, role: str, table: pd.DataFrame) -> str:
    near = difflib.get_close_matches(column, table.columns, n=1)
    known = ", ".join(map(repr, table.columns[:12])) + (", …" if table.shape[1] > 12 else "")
    hint = f"Did you mean {near[0]!r}?" if near else f"The columns are {known}."
    return (
        f"there is no column {column!r} for the {role} ({ROLES[role]}). {hint} "
        f"Name the column with --{role} COLUMN, or set one text for all rows with --{role} =TEXT."
    )


def _numbers(texts: pd.Series, role: str) -> tuple[pd.Series, list[str]]:
    """The numbers in a column, NaN where it is empty; also returns the mistakes."""
    given = texts.where(~texts.str.lower().isin(NOTHING))
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    non_finite = given.str.lower().str.lstrip("+-").isin(["nan", "inf", "infinity"])
    wrong = given.notna() & numbers.isna() & ~non_finite
    return numbers, _rows(wrong, texts, f"the {role} is not a number")


def _outcomes(
    texts: Mapping[str, pd.Series], known: Mapping[str, pd.Series]
) -> tuple[pd.Series, list[str]]:
    """The outcome of each run, from its status and its scores; also returns the mistakes."""
    status = texts["status"].str.lower()
    blank = {split: texts[split].str.lower().isin(NOTHING) for split in ("dev", "test")}
    diverged = status.isin(DIVERGED)
    for split in ("dev", "test"):
        diverged |= ~blank[split] & ~known[split].abs().lt(np.inf)  # NaN compares as false
    unfinished = status.isin(UNFINISHED) | (blank["dev"] & blank["test"] & ~diverged)
    outcome = pd.Series("completed", status.index)
    outcome = outcome.mask(diverged, "diverged").mask(unfinished, "missing")
    unknown = ~status.isin(COMPLETED | DIVERGED | UNFINISHED)
    message = "unknown status; use completed, diverged, missing, failed, crashed or a synonym"
    return outcome, _rows(unknown, texts["status"], message)


def _rows(wrong: pd.Series, texts: pd.Series, message: str) -> list[str]:
    """One message per wrong row for the first few, and a count of the others."""
    rows = list(texts.index[wrong])
    column = f", {texts.name}" if texts.name else ""
    mistakes = [f"row {row}{column}: {texts[row]!r}, {message}." for row in rows[:NAMED]]
    if len(rows) > NAMED:
        mistakes.append(f"{message}: in {len(rows) - NAMED} more rows.")
    return mistakes


def _directed(frame: pd.DataFrame, lower: set[str]) -> list[str]:
    """Set the direction of each run's metric; returns the metrics in `lower` that no run has."""
    metrics = set(frame["metric"].dropna())
    frame["metric"] = frame["metric"].fillna("score")
    frame["higher_is_better"] = ~frame["metric"].isin(
        lower | {metric for metric in metrics if metric.lower().replace(" ", "_") in LOWER}
    )
    known = sorted(set(frame["metric"]))
    return [f"no run has the metric {name!r}. {_near(name, known)}" for name in lower - set(known)]


def _based(frame: pd.DataFrame, baseline: str) -> list[str]:
    """Rename the baseline to `Standard`, as every table calls it; returns the mistakes."""
    if not baseline:
        return []
    own = (frame["technique"] == baseline) | (frame["configuration"] == baseline)
    labels = sorted(frame.loc[own, "configuration"].unique())
    if not labels:
        known = sorted({*frame["technique"], *frame["configuration"]})
        return [f"no run has the baseline {baseline!r}. {_near(baseline, known)}"]
    if len(labels) > 1:
        some = ", ".join(labels[:NAMED])
        return [f"the baseline {baseline!r} has several configurations; name one of {some}."]
    frame.loc[own, "technique"] = BASELINE
    frame.loc[own, "configuration"] = f"{BASELINE} ({labels[0]})"
    return []


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known[:12])}."


def _repeated(frame: pd.DataFrame) -> list[str]:
    twice = frame[frame.duplicated([*CELL, "seed"], keep=False) & frame["seed"].notna()]
    found = [
        f"rows {', '.join(map(str, part.index[:NAMED]))} are the same run: "
        f"{'/'.join(map(str, label))}, seed {seed}. Name the column that distinguishes them with "
        "--configuration."
        for (*label, seed), part in list(twice.groupby([*CELL, "seed"]))[:NAMED]
    ]
    more = twice[[*CELL, "seed"]].drop_duplicates().shape[0] - len(found)
    return [*found, *([f"and {more} more runs are duplicated."] if more > 0 else [])]


def _keys(frame: pd.DataFrame) -> list[str]:
    """Keys by content: the same run in two files has the same key."""
    facts = [frame[name].map(str) for name in [*CELL, "seed", "dev", "test"]]
    return [
        hashlib.sha256("\x1f".join(row).encode()).hexdigest()[:12]
        for row in zip(*facts, strict=True)
    ]


def _of_a_study(table: pd.DataFrame) -> pd.DataFrame:
    """Restore the types of a report's CSV; `checked` reports what is not a number."""
    counts = [*STREAMS, *RUN_COUNTS, "seed", "tried", "parameters"]
    yes = {"True": True, "False": False}
    typed: dict[str, Any] = {
        name: table[name].map(yes) for name in BOOLEANS if table[name].dtype != bool
    }
    for name in (column for column in [*counts, *RUN_NUMBERS] if column in table):
        values = table[name].replace("", None)
        try:
            typed[name] = pd.to_numeric(values).astype("Int64" if name in counts else "float64")
        except (TypeError, ValueError):
            typed[name] = values
    return table.assign(**typed)
