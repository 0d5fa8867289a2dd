"""Column files, as of CoNLL: a word per line, its tag in the last column, a blank line between."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from study.core.spec import Mistake, SpecError, few
from study.tasks.kinds.tagging import TAG

Sentence = dict[str, Any]


def read_sentences(
    lines: Iterable[bytes], source: str, *, text: str, label: str
) -> tuple[list[Sentence], list[int]]:
    """The sentences of a column file, with the tags as they are written.

    Columns are separated by tabs, or in lines without one by spaces. Lines that begin with
    `-DOCSTART-` are skipped, and comments: lines that begin with `#` and have not as many columns
    as the others, or no tag in the last.

    Args:
        lines: In UTF-8.
        source: Name of the file, for messages.
        text: Key for the list of words.
        label: Key for the list of tags.

    Returns:
        The sentences, and for each the number of the line with its first word.

    Raises:
        SpecError: With the first ten lines that are not UTF-8, or have no tag or another number of
            columns than most.
    """
    mistakes, cells = [], []
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            reason = f"is not UTF-8: {error.reason} at byte {error.start + 1}."
            mistakes.append(Mistake(f"{source}, row {number}", reason))
            continue
        if not line.startswith("-DOCSTART-"):
            cells.append((number, _cells(line)))
    widths = Counter(len(row) for _, row in cells if row and not row[0].startswith("#"))
    width = widths.most_common(1)[0][0] if widths else 0
    sentences: list[Sentence] = []
    numbers: list[int] = []
    inside = False
    for number, row in cells:
        if not row:
            inside = False
            continue
        fits = len(row) == width > 1
        if row[0].startswith("#") and not (fits and TAG.fullmatch(row[-1])):
            continue
        if not fits or not row[0]:
            mistakes.append(Mistake(f"{source}, row {number}", _problem(row, width)))
            continue
        if not inside:
            sentences.append({text: [], label: []})
            numbers.append(number)
            inside = True
        sentences[-1][text].append(row[0])
        sentences[-1][label].append(row[-1])
    if mistakes:
        raise SpecError("data", few(mistakes, source))
    return sentences, numbers


def _cells(line: str) -> list[str]:
    if not line.strip():
        return []
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _problem(row: list[str], width: int) -> str:
    if len(row) < 2:
        return f"has only {row[0]!r}; write a word, its tag last, and a tab or space between them."
    if not row[0]:
        return "has no word in the first column."
    return f"has {len(row)} columns, and most lines {width}; write the same columns in every line."
