"""What is wrong with a task's rows as a whole: labels, characters and ids."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from typing import Any

import numpy as np

from study.core.spec import Mistake, few
from study.tasks.kinds import Kind, Split
from study.tasks.kinds.base import RowMistake, plain_label
from study.tasks.kinds.tagging import stray_inside
from study.tasks.rows import Rows

BROKEN = (
    "has half of a surrogate pair (from U+D800 to U+DFFF), which is no character and which no "
    "tokenizer takes; restore the character, often an emoji that was cut in two, or remove it."
)
ALIKE = 0.75  # similarity from which a label that train lacks counts as misspelt, in [0, 1]


def count_mistakes(kind: Kind, metric: str, location: str) -> list[Mistake]:
    """Whether there are enough classes for the kind, and not too many for the metric.

    Args:
        kind: The kind of task, with its class names.
        metric: Name of the metric.
        location: Where the labels are.
    """
    mistakes = []
    if kind.name in ("classification", "image") and len(kind.labels) < 2:
        text = f"has only one label, {kind.labels[0]!r}; classification needs at least two."
        mistakes.append(Mistake(location, text))
    if metric == "f1" and len(kind.labels) > 2:
        text = f"'f1' needs two classes, but there are {len(kind.labels)}; use macro_f1."
        mistakes.append(Mistake("metric", text))
    return mistakes


def spelling_mistakes(kind: Kind, tables: Mapping[str, Rows], column: str) -> list[Mistake]:
    """Labels that are probably another label misspelt.

    They differ from another one only in what is not seen, such as `pos` and `Pos ` with a space at
    its end; or train lacks them and has one that is much alike, such as `entailmnet`.

    Args:
        kind: The kind of task, with the class names of all splits.
        tables: The rows of train, dev and test.
        column: Column with the label.
    """
    locations: dict[str, str] = {}
    of_train: set[str] = set()
    for split, label, location in _occurrences(kind, tables, column):
        locations.setdefault(label, location)
        if split == "train":
            of_train.add(label)
    spellings: dict[str, str] = {}
    mistakes = []
    for label in (name for name in kind.labels if name in locations):
        path = f"{locations[label]}, {column}"
        first = spellings.setdefault(plain_label(label), label)
        if label != first:
            text = (
                f"{label!r} differs from {first!r} of {locations[first]} only in "
                "spaces, case or the form of a number; write them alike, or name all labels of the "
                "task in `labels`."
            )
            mistakes.append(Mistake(path, text))
        elif label not in of_train and (near := misspelt(label, of_train)):
            text = (
                f"{label!r} is not a label of train. Did you mean {near!r}? If not, name all "
                "labels of the task in `labels`."
            )
            mistakes.append(Mistake(path, text))
    return few(mistakes, next(iter(tables.values())).source)


def _occurrences(
    kind: Kind, tables: Mapping[str, Rows], column: str
) -> Iterator[tuple[str, str, str]]:
    """Split, name and location of each label of each row."""
    for split, rows in tables.items():
        for row, value in enumerate(rows.columns[column]):
            for label in kind.class_names([value]):
                yield split, label, rows.location(row)


def misspelt(label: str, known: set[str]) -> str | None:
    """A known label that another one is probably meant to be; tags are compared by their class."""
    prefix = label[:2] if label[:2] in ("B-", "I-") else ""
    names = {name.removeprefix("B-").removeprefix("I-") if prefix else name for name in known}
    name = label.removeprefix(prefix)
    if name in names or any(map(str.isdigit, name)):  # 11 is not 1, nor CPR:3 CPR:4
        return None
    near = get_close_matches(name, sorted(names), n=1, cutoff=ALIKE)
    return prefix + near[0] if near else None


def constant_labels(train: Split, location: str) -> list[Mistake]:
    """Whether there is no standard deviation to divide the values by.

    Args:
        train: The training rows in use.
        location: Where the labels are.
    """
    if np.ptp(train.gold):
        return []
    text = (
        f"all {len(train.gold)} rows have the label {train.gold[0]:g}, so there is no standard "
        "deviation to standardise by, and nothing to learn; add rows with other labels."
    )
    return [Mistake(location, text)]


def is_broken(value: Any) -> bool:
    """Whether a text, or one in a list or object, cannot be encoded in UTF-8."""
    if isinstance(value, dict):
        return any(map(is_broken, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return any(map(is_broken, value))
    if not isinstance(value, str) or value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def not_counted(gold: list[list[str]]) -> list[RowMistake]:
    """Entities that the strict metric leaves out, so that a perfect prediction would score low."""
    found = ((row, stray) for row, tags in enumerate(gold) if (stray := stray_inside(tags)))
    return [
        (
            row,
            f"{stray!r} begins an entity, and 'entity_f1_strict' counts only those that begin with "
            f"B-; write {'B' + stray[1:]!r}, or use 'entity_f1', which reads IOB1 and IOB2.",
        )
        for row, stray in found
    ]


def repeated_ids(tables: Sequence[Rows]) -> list[Mistake]:
    """One mistake with the first of the rows whose id another row has, their number, and the cure.

    Args:
        tables: The rows of train, dev and test.
    """
    locations: dict[str, str] = {}
    repeats = []
    for rows in tables:
        for number, id_ in enumerate(rows.ids):
            location = rows.location(number)
            if id_ in locations:
                repeats.append((location, id_))
            locations.setdefault(id_, location)
    if not repeats:
        return []
    path, id_ = repeats[0]
    text = f"repeats the id {id_!r} of {locations[id_]}"
    if (more := len(repeats) - 1) > 0:
        text += f", and {more} more {'rows repeat' if more > 1 else 'row repeats'} one"
    sets = [set(rows.ids) for rows in tables]
    unique = all(len(ids) == len(rows.ids) for ids, rows in zip(sets, tables, strict=True))
    if unique and not any(one.isdisjoint(other) for one, other in combinations(sets, 2)):
        cure = "The ids restart in every split; set id=None on the task to number the rows instead."
    else:
        cure = "Remove rows that are the same example; else id=None on the task numbers the rows."
    return [Mistake(path, f"{text}. {cure}")]
