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
from analysis.frames.integers import integer_series
from analysis.frames.layouts import STUDY, layout_of, read_peft
from analysis.frames.metric_names import meaning
from analysis.frames.runs import (
    ASSUMED,
    BASELINE,
    BY_NAME,
    CELL,
    TOLD,
    ScoreFileError,
    checked,
    with_current_names,
)
from analysis.frames.text_tables import read_table, without_ending
from analysis.frames.units import UNNAMED_METRIC, entries, in_one_unit, with_units
from analysis.statistics.collapse import at_floor

ROLES = {
    "task": "the task or data set",
    "model": "the pretrained model",
    "technique": "the fine-tuning technique",
    "configuration": "further settings, several separated by commas",
    "seed": "integer that distinguishes the runs of a cell; without it nothing is paired",
    "test": "test score",
    "dev": "dev score, used for selection",
    "metric": "the metric's name; default: the name of the test column",
    "floor": "score of the constant predictor; runs no better than it are marked as collapsed",
    "dev_rows": "number of dev examples, from which the margin above the floor follows",
    "test_rows": "number of test examples",
    "status": "whether the run finished",
    "seconds": "duration of the run",
    "memory": "peak memory in bytes",
    "device": "hardware of the run",
}
REQUIRED = ("task", "technique")
SPLITS = ("test", "dev")  # a file needs one of them
ABSENT = "–"  # placeholder text of a required column that the file lacks
UNNAMED = "unnamed"  # model of a file without a model column
COMPLETED = {"", "completed", "complete", "finished", "success", "succeeded", "ok", "done"}
DIVERGED = {"diverged", "nan"}
UNFINISHED = {
    *("missing", "failed", "crashed", "killed", "error", "timeout", "preempted", "preempting"),
    *("running", "pending", "canceled", "cancelled"),
}
NOTHING = {"", "-", ABSENT, "?", "na", "n/a", "none", "null"}  # texts of a missing value
BOOLEANS = ("higher_is_better", "collapsed", "dirty")
NAMED = 5  # mistakes of a kind that are listed one by one; the others are counted


def read_scores(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    higher_is_better: Iterable[str] = (),
    lower_is_better: Iterable[str] = (),
    baseline: str = "",
) -> pd.DataFrame:
    """Read the runs in a file of scores.

    Args:
        path: A CSV or TSV file (gzip allowed) with a header and one row per run; `runs.csv` or
            `runs.parquet` of a report; a JSON file of peft, or a folder of them.
        columns: Maps a role in `ROLES` to its column, or to `=` and a text for all rows, such as
            `{"task": "=rte"}`. A role that is not given defaults to the column of its own name.
            Task, technique, and test or dev are required.
        higher_is_better: Metrics where higher is better, beside those known by their name.
        lower_is_better: Metrics where lower is better, likewise.
        baseline: The technique, or configuration, to compare the others with; it is then shown as
            `Standard (NAME)`. Not needed if the baseline is called `Standard`.

    Returns:
        Checked runs with the columns of `load_runs`; the study is named after the file. A run is
        missing if it has no score, or if its status says that it did not finish, even if it
        logged scores. A score of `nan` or `inf` makes it diverged. With a floor, a run whose dev
        score (or test score, if the file has no dev scores) is not above it by
        `statistics.collapse.margin` is collapsed. Scores in per cent are read as shares where the
        name of the metric says that they can be (`metric_names.meaning`).

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
    told = {True: set(higher_is_better), False: set(lower_is_better)}
    if layout is STUDY:
        table = with_current_names(table)
    if layout is STUDY and not columns:
        frame, mistakes = _of_a_study(table)
        if told[True] or told[False]:
            mistakes.append("this file already says which metrics are lower-is-better.")
        mistakes += _based(frame, baseline)
    else:
        frame, mistakes = _frame(
            table, {**layout.columns, **(columns or {})}, named=set(columns or {})
        )
        frame["study"] = path.name if path.is_dir() else without_ending(path.name)
        mistakes += _directed(frame, told)
        frame, mixed = in_one_unit(frame)
        mistakes += mixed
        frame = with_units(frame)
        if not mistakes:
            frame["collapse_rule"] = _collapse_rules(frame)
            frame["collapsed"] = frame["collapse_rule"] != ""
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


def option(role: str) -> str:
    """The command line's option for a role."""
    return f"--{role.replace('_', '-')}"


def _read(path: Path) -> pd.DataFrame:
    """Read the file as text, one row per run; the index counts data rows from 1."""
    if path.is_dir() or path.suffix.lower() == ".json":
        return read_peft(path)
    return read_table(path)


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
    if (texts["model"] != "").any():
        mistakes += _rows(texts["model"] == "", texts["model"], "the model is empty")
    frame["model"] = texts["model"].replace("", UNNAMED)
    frame["configuration"] = frame["technique"] + texts["configuration"]
    frame["metric"] = texts["metric"].replace("", None)
    frame["device"] = texts["device"]
    known: dict[str, pd.Series] = {}
    for role in ("test", "dev", "floor", "seconds", "memory"):
        known[role], wrong = _numbers(texts[role], role)
        mistakes += wrong
    for role in ("dev_rows", "test_rows", "seed"):
        stated = texts[role].where(~texts[role].str.lower().isin(NOTHING), "")
        known[role], odd = integer_series(stated)
        mistakes += _rows(odd, texts[role], f"the {_words(role)} is not an integer of 64 bits")
    frame["dev_rows"], frame["test_rows"] = known["dev_rows"], known["test_rows"]
    frame["test_floor"] = frame["dev_floor"] = known["floor"]
    frame["seconds"], frame["peak_memory_bytes"] = known["seconds"], known["memory"]
    frame["outcome"], wrong = _outcomes(texts, known)
    mistakes += wrong
    for split in ("dev", "test"):
        frame[split] = known[split].where(frame["outcome"] == "completed")
    seed = known["seed"]
    if texts["seed"].str.lower().isin(NOTHING).all():
        # Every run gets a seed of its own, so that nothing is paired.
        seed = pd.Series(np.arange(len(frame)), frame.index, dtype="Int64")
    else:
        empty = texts["seed"].str.lower().isin(NOTHING)
        mistakes += _rows(empty, texts["seed"], "the seed is empty")
    for stream in ("seed", *STREAMS):
        frame[stream] = seed
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
                    settings = settings + f", {name}=" + table[name].str.strip()
                texts[role] = "(" + settings.str.removeprefix(", ") + ")"
        elif column in table:
            texts[role] = table[column].str.strip()
        elif role in REQUIRED or role in named or (role == "test" and _lacks_scores(table, given)):
            mistakes.append(_unknown(column, role, table))
            texts[role] = nothing + ABSENT  # avoids a second message for every row
    scored = next((given[split] for split in SPLITS if split in named), "=")
    if (texts["metric"] == "").all() and not scored.startswith("="):
        texts["metric"] = nothing + scored  # such as `eval_loss` of --test eval_loss
    return texts, mistakes


def _lacks_scores(table: pd.DataFrame, given: Mapping[str, str]) -> bool:
    return not any(given.get(split, split) in table for split in SPLITS)


def _words(role: str) -> str:
    return role.replace("_", " ")


def _unknown(column: str, role: str, table: pd.DataFrame) -> str:
    near = difflib.get_close_matches(column, table.columns, n=1)
    known = ", ".join(map(repr, table.columns[:12])) + (", …" if table.shape[1] > 12 else "")
    hint = f"Did you mean {near[0]!r}?" if near else f"The columns are {known}."
    return (
        f"there is no column {column!r} for the {_words(role)} ({ROLES[role]}). {hint} "
        f"Name the column with {option(role)} COLUMN, or set one text for all rows with "
        f"{option(role)} =TEXT."
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


def _directed(frame: pd.DataFrame, told: Mapping[bool, set[str]]) -> list[str]:
    """Set the direction of each run's metric and where it comes from; returns the mistakes."""
    named = frame["metric"].notna()
    frame["metric"] = frame["metric"].fillna(UNNAMED_METRIC)
    known = sorted(set(frame["metric"]))
    both = told[True] & told[False]
    mistakes = [f"the metric {name!r} cannot be both better higher and lower." for name in both]
    mistakes += [
        f"no run has the metric {name!r}. {_near(name, known)}"
        for name in sorted((told[True] | told[False]) - set(known))
    ]
    frame["higher_is_better"], frame["direction_from"] = True, BY_NAME
    for metric, part in frame.groupby("metric"):
        name, at = str(metric), part.index
        if name in told[True] | told[False]:
            frame.loc[at, "higher_is_better"] = name in told[True]
            frame.loc[at, "direction_from"] = TOLD
            continue
        if not named[at].any():
            frame.loc[at, "direction_from"] = ASSUMED
        read = meaning(name)
        frame.loc[at, "higher_is_better"] = read.direction != "lower"
        choose = f"say --higher-is-better {name!r} or --lower-is-better {name!r}."
        if read.direction is None:
            mistakes.append(f"whether higher or lower {name!r} is better is unknown: {choose}")
        mistakes += _signs(part, name, read.sign, choose)
    return mistakes


def _signs(part: pd.DataFrame, name: str, sign: int, choose: str) -> list[str]:
    """A mistake if scores of an error are negative, or those of a negated error positive."""
    found = entries(part.assign(dev_floor=np.nan))
    wrong = found[found["value"] * sign < 0]
    if wrong.empty:
        return []
    first: Any = next(wrong.itertuples())
    what = "a negated error" if sign < 0 else "an error"
    other = "positive" if sign < 0 else "negative"
    return [
        f"{name!r} is {what} by its name, but {len(wrong)} of its scores are {other}, the first "
        f"in row {first.row}, {first.column}: {first.value:g}; {choose}"
    ]


def _collapse_rules(frame: pd.DataFrame) -> pd.Series:
    """`at_floor` for completed runs that are no better than the floor of their task, else empty."""
    rules = pd.Series("", frame.index)
    for _, part in frame[frame["outcome"] == "completed"].groupby("task"):
        split = "dev" if part["dev"].notna().any() else "test"
        scores, floors = part[split].to_numpy("float64"), part["dev_floor"].dropna()
        if floors.empty:
            continue
        shares = meaning(part["metric"].iloc[0]).bounded and entries(part)["value"].max() <= 1
        examples = [np.nan if pd.isna(rows) else float(rows) for rows in part[f"{split}_rows"]]
        collapsed = at_floor(
            scores,
            float(floors.iloc[0]),
            np.array(examples),
            bounded=shares or part["unit"].iloc[0] != "own",
            sign=1.0 if part["higher_is_better"].iloc[0] else -1.0,
        )
        rules[part.index[collapsed]] = "at_floor"
    return rules


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


def _of_a_study(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Restore the types of a report's file; `checked` reports scores that are not numbers."""
    yes = {"true": True, "false": False}
    typed: dict[str, Any] = {name: table[name].str.lower().map(yes) for name in BOOLEANS}
    mistakes = []
    for name in [*STREAMS, *RUN_COUNTS, "seed", "tried", "parameters"]:
        if name in table:
            typed[name], odd = integer_series(table[name])
            mistakes += _rows(odd, table[name], "this is not an integer of 64 bits")
    for name in RUN_NUMBERS:
        try:
            typed[name] = pd.to_numeric(table[name].replace("", None)).astype("float64")
        except (TypeError, ValueError):
            typed[name] = table[name]
    wrong = typed["higher_is_better"].isna() & (table["higher_is_better"] != "")
    mistakes += _rows(wrong, table["higher_is_better"], "this is not True or False")
    return table.assign(**typed), mistakes
