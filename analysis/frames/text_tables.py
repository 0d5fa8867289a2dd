"""Read CSV, TSV and Parquet files as tables of text, in which an empty text is a missing value."""

import csv
import gzip
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.frames.runs import ScoreFileError

UNREADABLE = (ValueError, OSError, EOFError, csv.Error, zlib.error)  # pyarrow's are ValueErrors
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
NAMED = 5  # mistakes of a kind that are listed one by one; the others are counted


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text, one row per run; the index counts data rows from 1.

    A null of a Parquet file becomes an empty text, as in CSV, and a NaN the text `nan`. Empty
    fields that a row of a CSV has beyond the header, as from a comma at its end, are dropped, and
    so are columns without a name, such as the row names of R and pandas.

    Args:
        path: A CSV, TSV or Parquet file, or one of the first two compressed with gzip.

    Raises:
        ScoreFileError: If it is not such a table, has no rows, two columns have the same name, or
            a row has too few or too many fields.
    """
    try:
        header, rows = _parquet(path) if _ends(path, ".parquet") else _delimited(path)
    except FileNotFoundError:
        raise ScoreFileError([f"there is no file {str(path)!r}."]) from None
    except UNREADABLE as error:
        raise ScoreFileError([f"{path.name} cannot be read as a table: {error}"]) from None
    header = [name.strip() for name in header]
    mistakes = _repeated(header)
    wide = [(number, row) for number, row in enumerate(rows, 1) if len(row) != len(header)]
    mistakes += [
        f"row {number} has {len(row)} fields, but the header has {len(header)}: "
        f"{', '.join(row[:NAMED])}{', …' if len(row) > NAMED else ''}."
        for number, row in wide[:NAMED]
    ]
    if len(wide) > NAMED:
        mistakes.append(f"{len(wide) - NAMED} more rows have too few or too many fields.")
    if not rows:
        raise ScoreFileError([f"{path.name} has no rows."])
    if mistakes:
        raise ScoreFileError([f"{path.name}: {mistake}" for mistake in mistakes])
    table = pd.DataFrame(rows, columns=header, index=pd.RangeIndex(1, len(rows) + 1), dtype=str)
    return table.loc[:, [name != "" for name in header]]


def without_ending(name: str) -> str:
    """A file's name without the ending of a table, such as `results.2024` of `results.2024.csv`."""
    endings = [ending for ending in (*TABLES, ".json") if name.lower().endswith(ending)]
    return name[: -len(max(endings, key=len))] if endings else name


def _ends(path: Path, *endings: str) -> bool:
    return path.name.lower().endswith(endings)


def _parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    from pyarrow import parquet  # slow to load

    table = parquet.read_table(path)
    columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    return list(table.column_names), [list(row) for row in zip(*columns, strict=True)]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _delimited(path: Path) -> tuple[list[str], list[list[str]]]:
    separator = "\t" if _ends(path, ".tsv", ".tsv.gz") else ","
    opened = gzip.open if _ends(path, ".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = [row for row in csv.reader(file, delimiter=separator, strict=True) if any(row)]
    if not lines:
        raise ValueError("it is empty")
    header, *rows = lines
    if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), "")):
        raise ValueError(f"its columns are separated by {other!r}, not by {separator!r}")
    size = len(header)
    return header, [row[:size] if not any(row[size:]) else row for row in rows]


def _repeated(header: list[str]) -> list[str]:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    return [
        f"the column {name!r} occurs {header.count(name)} times; rename all but one."
        for name in twice
    ]
