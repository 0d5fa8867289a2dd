"""Tables as text: comma, semicolon or tab between columns, found by the header."""

import csv
import gzip
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from study.core.spec import Mistake, SpecError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_text_table(path: Path, columns: Collection[str]) -> Any:
    """A CSV, TSV or TXT file as a frame of texts.

    The separator is the one that divides the header into all required columns. If none does, it is
    a tab in a `.tsv` whose header has one, else the one that divides it into most; the caller then
    reports its columns.

    Args:
        path: The file.
        columns: Names of the required columns, at least two; none if they are not known.

    Raises:
        SpecError: If it is no table with one name per column.
    """
    import pandas as pd  # slow to import, and not needed for the bundled data

    separator = ","
    try:
        separator = _separator(path, columns)
        plain = separator == "\t" and not _is_quoted(path)
        # The header is read as a row: given more fields in the rows than names, pandas would take
        # the first column for an index and move all others by one.
        rows = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            header=None,
            quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        text = f"is not a table in UTF-8 CSV: {str(error).strip().rpartition('C error: ')[2]}."
        if isinstance(error, pd.errors.ParserError):
            name = SEPARATORS[separator]
            text += f" Each row needs as many fields as the first; a {name} at its end is one more."
        raise SpecError("data", [Mistake(str(path), text)]) from error
    names = rows.iloc[0].tolist()
    if repeated := [name for name in dict.fromkeys(names) if name and names.count(name) > 1]:
        text = f"names more than one column {', '.join(map(repr, repeated))}; rename one of them."
        raise SpecError("data", [Mistake(str(path), text)])
    named = rows.iloc[1:].set_axis(names, axis="columns")
    return named.loc[:, [name != "" for name in names]]


def _separator(path: Path, columns: Collection[str]) -> str:
    """The separator of a file's columns; at most one can divide the header into two given names."""
    import pandas as pd

    headers = {}
    for separator in SEPARATORS:
        row = pd.read_csv(
            path, sep=separator, nrows=1, header=None, dtype=str, keep_default_na=False
        )
        headers[separator] = row.iloc[0].tolist()
    for separator, names in headers.items():
        if columns and set(columns) <= set(names):
            return separator
    if ".tsv" in path.suffixes and len(headers["\t"]) > 1:
        return "\t"
    return max(headers, key=lambda separator: len(headers[separator]))


def _is_quoted(path: Path) -> bool:
    """Whether quotes in a tab-separated file enclose cells; else they are part of the texts.

    Programs write such files in both ways. Quotes enclose cells if, read so, every row has as many
    cells as the header; unless every line has as many, and the quotes would join some of them.
    """
    quoted, plain = (_widths(path, quoting) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE))
    if len(set(quoted)) != 1:
        return False
    return len(set(plain)) != 1 or len(plain) == len(quoted)


def _widths(path: Path, quoting: Literal[0, 3]) -> list[int]:
    """Cells in each row of a tab-separated file; empty if a quote is in a place where none can be.

    Args:
        path: The file.
        quoting: `csv.QUOTE_MINIMAL` or `csv.QUOTE_NONE`.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.reader(file, delimiter="\t", quoting=quoting, strict=True)
            return [len(row) for row in reader if row]
        except csv.Error:
            return []
