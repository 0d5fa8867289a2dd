"""Integers from text, exactly: floats would make seeds above 2**53 equal."""

import re

import pandas as pd

RANGE = range(-(2**63), 2**63)  # of the column type Int64
WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")


def integer_series(texts: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Parse integers, such as `7` and `7.0`.

    Args:
        texts: Text; empty or missing where there is no number.

    Returns:
        The numbers as Int64, missing where there is none, and whether each text is something else
        than an integer in `RANGE`.
    """
    given = texts.fillna("").astype(str).str.strip()
    found = [WHOLE.fullmatch(text) for text in given]
    numbers = [int(match[1]) if match else None for match in found]
    fits = [number is not None and number in RANGE for number in numbers]
    kept = [number if ok else pd.NA for number, ok in zip(numbers, fits, strict=True)]
    wrong = (given != "") & ~pd.Series(fits, texts.index, dtype=bool)
    return pd.Series(pd.array(kept, dtype="Int64"), texts.index, name=texts.name), wrong
