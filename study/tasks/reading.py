"""Reading of rows from files and from the Hugging Face hub."""

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from study.core import hub
from study.core.spec import Mistake, SpecError, few, nearest
from study.tasks.column_files import read_sentences
from study.tasks.rows import Rows
from study.tasks.text_tables import read_text_table

DEFAULT_ID = "id"  # rows may lack a column of this name
LONGEST_NAME = 60  # characters of the name of a column
SHOWN = 20  # columns that a message lists of a wide table


def resolve(source: str, folders: list[str]) -> str | Path:
    """Find the file or folder that a task names; hub names are returned unchanged.

    Args:
        source: As in `Task.train`.
        folders: Folders to search for relative paths before the working directory.

    Raises:
        SpecError: If there is none.
    """
    if source.startswith("hf:"):
        return source
    if source.startswith("bundled:"):
        return Path(str(resources.files("study") / "bundled" / source.removeprefix("bundled:")))
    tried = dict.fromkeys(Path(folder).resolve() for folder in (*folders, "."))
    for folder in tried:
        if (path := Path(folder, source)).exists():
            return path
    searched = ", ".join(map(str, tried))
    files = [file.name for folder in tried if folder.is_dir() for file in folder.iterdir()]
    near = f" {near}" if (near := nearest(source, files)) else ""
    hint = "" if folders else " Set its folder in the study's `data` or in STUDY_DATA."
    raise SpecError("data", [Mistake(source, f"no such file in {searched}.{near}{hint}")])


def read_rows(
    source: str | Path,
    columns: Mapping[str, str],
    *,
    id_column: str | None,
    split: str,
    optional: Sequence[str] = (),
) -> Rows:
    """Read JSONL, JSON, CSV, TSV, TXT, Parquet, a column file, or a hub data set.

    Args:
        source: A file, or a name on the hub.
        columns: Required columns, and for each the task's field that names it; those of the text
            and the label come first. All but the optional ones need a value in every row.
        id_column: Column with ids, which must exist unless it has the default name, `id`; rows
            without an id get one made of `split` and row number.
        split: Prefix of such ids, such as `train`.
        optional: Columns that may have empty values.

    Raises:
        SpecError: With missing columns, or the first ten broken lines or empty values.
    """
    records, numbers = _records(source, list(columns))
    name = str(source)
    if not records:
        raise SpecError("data", [Mistake(name, "has no rows.")])
    named = dict(columns)
    if id_column is not None and id_column != DEFAULT_ID:
        named[id_column] = "id"
    if mistakes := _missing_columns(name, named, dict.fromkeys(c for r in records for c in r)):
        raise SpecError("data", mistakes)
    empty = []
    for record, number in zip(records, numbers, strict=True):
        for column in columns:
            if _is_empty(record.get(column)):
                record[column] = ""
                if column not in optional:
                    text = "is empty; give a value or remove the row."
                    empty.append(Mistake(f"{name}, row {number}, {column}", text))
    if empty:
        raise SpecError("data", few(empty, name))
    ids = []
    for record, number in zip(records, numbers, strict=True):
        given = None if id_column is None else record.get(id_column)
        ids.append(f"{split}-{number}" if _is_empty(given) else str(given))
    return Rows(name, ids, {c: [record[c] for record in records] for c in columns}, numbers)


def _missing_columns(source: str, named: Mapping[str, str], known: Iterable[str]) -> list[Mistake]:
    """Required columns that a table lacks, with those that it has.

    Args:
        source: Name of the table.
        named: Required columns, and for each the task's field that names it.
        known: The table's columns, in its order.
    """
    known = list(known)
    absent = [column for column in named if column not in known]
    if absent and (text := looks_like_data(known)):
        return [Mistake(source, text)]
    listed = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" * (len(known) > SHOWN))
    mistakes = []
    for column in absent:
        near = f"{near} " if (near := nearest(column, known)) else ""
        text = f"no such column. {near}It has {listed}; name one of them in `{named[column]}`."
        mistakes.append(Mistake(f"{source}, column {column!r}", text))
    return mistakes


def looks_like_data(names: Iterable[str]) -> str:
    """What to do if a table's first row is data rather than names of columns; empty if it is not.

    Numbers and long texts are hardly names of columns, where most are.
    """
    names = list(names)
    data = [name for name in names if is_number(name) or len(name) > LONGEST_NAME]
    return header_missing(names) if 2 * len(data) > len(names) else ""


def header_missing(names: Iterable[str]) -> str:
    """What to do about a table whose first row, of these values, is data."""
    names = list(names)
    few = ", ".join(repr(name[:LONGEST_NAME]) for name in names[:SHOWN])
    return (
        f"the first row looks like data, not like names of columns: {few}. Write a row of "
        "names above it, in the order of the columns and with the file's separator."
    )


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    with suppress(ValueError):
        float(text)
        return True
    return False


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _records(source: str | Path, columns: list[str]) -> tuple[list[dict[str, Any]], list[int]]:
    if isinstance(source, str):
        hub_rows = _hub_rows(source)
        return hub_rows, list(range(1, len(hub_rows) + 1))
    suffix = source.name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix == "json" and (records := _json_file(source)) is not None:
        return records, list(range(1, len(records) + 1))
    if suffix in ("jsonl", "json"):
        return _json_lines(source)
    if suffix in ("conll", "bio"):
        text, label = columns[:2] or ("tokens", "tags")
        with _open(source) as lines:
            return read_sentences(lines, str(source), text=text, label=label)
    if suffix in ("csv", "tsv", "txt"):
        frame = read_text_table(source, columns)
    elif suffix == "parquet":
        import pandas as pd  # slow to import, and not needed for the bundled data

        frame = pd.read_parquet(source)
    else:
        text = f"unsupported file type {suffix!r}; use JSONL, CSV, TSV, Parquet or CoNLL."
        raise SpecError("data", [Mistake(str(source), text)])
    # pandas returns lists in Parquet as arrays.
    records = [
        {str(k): v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]
    return records, list(range(1, len(records) + 1))


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _json_file(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file that is one JSON array, or in SQuAD's own layout; None for JSON lines."""
    with _open(path) as file:
        try:
            content = json.loads(file.read().decode("utf-8-sig"))
        except ValueError:
            return None
    if isinstance(content, list) and all(isinstance(record, dict) for record in content):
        return content
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        return None
    try:
        return [
            {**question, "context": paragraph["context"]}
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (KeyError, TypeError):
        return None


def _json_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    records, numbers, mistakes = [], [], []
    with _open(path) as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                text = f"is not UTF-8: {error.reason} at byte {error.start + 1}."
                mistakes.append(Mistake(f"{path}, row {number}", text))
                continue
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                text = f"is not valid JSON: {error.msg} at character {error.pos + 1}."
                mistakes.append(Mistake(f"{path}, row {number}", text))
                continue
            if not isinstance(record, dict):
                text = 'is not a JSON object; each line must be one, such as {"text": "..."}.'
                mistakes.append(Mistake(f"{path}, row {number}", text))
                continue
            records.append(record)
            numbers.append(number)
    if mistakes:
        raise SpecError("data", few(mistakes, str(path)))
    return records, numbers


def _hub_rows(source: str) -> list[dict[str, Any]]:
    name, _, split = source.removeprefix("hf:").partition(":")  # `train[:90%]` has one too
    owner_and_name, config = name.rsplit("/", 1) if name.count("/") == 2 else (name, None)
    try:
        import datasets
    except ImportError as error:
        text = "needs the `datasets` package: pip install 'finetuning-stability[hub]'"
        raise SpecError("data", [Mistake(source, text)]) from error
    if not hub.offline() and not hub.reachable():
        text = (
            "the hub does not answer. If the data set is cached, set HF_HUB_OFFLINE=1; otherwise "
            "save its splits as Parquet on a machine with network access and name those files."
        )
        raise SpecError("data", [Mistake(source, text)])
    try:
        loaded = datasets.load_dataset(owner_and_name, config, split=split)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: data sets with scripts
        reason = str(error).splitlines()[0]
        text = f"cannot be loaded from the hub: {reason}"
        raise SpecError("data", [Mistake(source, text)]) from error
    classes = {}
    for column, feature in loaded.features.items():
        inner = getattr(feature, "feature", feature)  # lists of tags wrap it
        if isinstance(inner, datasets.ClassLabel):
            classes[column] = inner.names
    return [
        {k: _class_name(v, classes[k]) if k in classes else v for k, v in row.items()}
        for row in loaded
    ]


def _class_name(value: Any, names: Sequence[str]) -> Any:
    """The names of the hub's class ids; -1, an unlabelled row, is kept."""
    if isinstance(value, list):
        return [_class_name(item, names) for item in value]
    return names[value] if value >= 0 else value


def read_records(source: str | Path) -> list[dict[str, Any]]:
    """All rows of a file or hub data set with all their columns, whatever their names.

    Raises:
        SpecError: If it cannot be read.
    """
    return _records(source, [])[0]
