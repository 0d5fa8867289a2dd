"""What kind of task a table is, guessed from the names and values of its columns."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from study.core.spec import Mistake, SpecError, did_you_mean
from study.tasks.reading import SHOWN, header_missing, looks_like_data

NAMES = {  # usual names of columns, the most telling first
    "text": ("text", "sentence", "sentence1", "text1", "question1", "premise", "content", "review"),
    "text_pair": ("text_pair", "sentence2", "text2", "question2", "hypothesis", "pair", "second"),
    "label": ("label", "labels", "gold", "target", "class", "category", "score", "rating", "y"),
    "several": ("tags", "topics"),
    "prompt": ("prompt", "instruction", "question", "query"),
    "answer": ("answer", "response", "completion", "output", "reply"),
    "messages": ("messages", "conversation", "conversations"),
    "words": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "labels", "label"),
    "id": ("id", "guid", "idx"),
}
CLASSES = 30  # distinct values up to which a column can be a class
FEW = 20  # distinct integers up to which a label is a class and no quantity
NUMERIC = 0.9  # share of numbers from which the other labels of a column are mistakes
REUSED = 0.8  # share of names that occur in two different values or more
REPEATED = 0.9  # distinct values per row up to which a column may say what belongs together
UNEVEN = 0.7  # share of the most frequent class from which accuracy says little

Records = Sequence[Mapping[str, Any]]


class Guess(NamedTuple):
    """A guess at the fields of a `Task`.

    Attributes:
        fields: Values by field: kind, metric, text, text_pair, label, id, standardise.
        reasons: What each guess rests on, one sentence each.
        classes: Number of classes of a classification; else 0.
    """

    fields: dict[str, Any]
    reasons: list[str]
    classes: int = 0


def guess(records: Records, *, given: Mapping[str, str] | None = None) -> Guess:
    """Guess the fields of the task that a table holds.

    Args:
        records: The rows, values by column.
        given: Columns that are known: of the fields `text`, `text_pair` and `label`, and `group`,
            whose rows of one value stay in one part.

    Raises:
        SpecError: If no column can be the text, or none the label, or a given one is absent.
    """
    columns = list(dict.fromkeys(name for record in records for name in record))
    given = given or {}
    if absent := {what: name for what, name in given.items() if name not in columns}:
        raise SpecError("data", [_absent(*each, columns) for each in absent.items()])
    values = {name: [record.get(name) for record in records] for name in columns}
    if "answers" in values and {"question", "context"} <= values.keys():
        fields = {"kind": "span", "metric": "squad_f1", "text": "question"}
        fields |= {"text_pair": "context", "label": "answers"}
        return Guess(fields | _id(values), ["question, context and answers: spans, as in SQuAD."])
    if asked := _prompts(values, given):
        return asked
    lists = [name for name in columns if _are_lists(values[name])]
    words = _named("words", lists, given.get("text"))
    tags = _named("tags", [name for name in lists if name != words], given.get("label"))
    if words and tags:
        fields = {"kind": "tagging", "metric": "entity_f1", "text": words, "label": tags}
        reason = f"{words!r} and {tags!r} hold one list per row: a tag for every word."
        return Guess(fields | _id(values), [reason])
    label = given.get("label") or _label(values)
    known = "label" in given or _named("label", columns)
    if not known and label in (flags := _flags(values)) and len(flags) > 2:
        raise SpecError("data", [Mistake("label", _join_flags(flags))])
    text, pair = _texts({name: v for name, v in values.items() if name != label}, given)
    if not text or not label:
        what = "text" if not text else "label"
        problem = f"no column looks like it; the columns are {', '.join(columns)}. "
        problem += f"Name one with --{what} COLUMN."
        raise SpecError("data", [Mistake(what, looks_like_data(columns) or problem)])
    if not known and label in set(map(str, values[label])):  # a column named after a class of it
        raise SpecError("data", [Mistake("label", header_missing(columns))])
    why = "as given" if "text" in given else _why_text(text)
    if len(set(map(str, values[label]))) == len(records) and not _numbers(values[label])[0]:
        distinct = f"{label!r} has another value in every row, so there is nothing to learn."
        raise SpecError("data", [Mistake("label", f"{distinct} Name one with --label COLUMN.")])
    reasons = [f"text: {text!r}{f' and {pair!r}' if pair else ''}, {why}."]
    kind, reason = _kind(label, values[label])
    named: dict[str, Any] = {"text": text, "text_pair": pair, "label": label}
    ids = _id(values)
    reasons.append(reason)
    if ids.get("id"):
        reasons.append(f"id: {ids['id']!r}, by name; its values are unique.")
    others = {n: v for n, v in values.items() if n not in (text, pair, label)}
    reasons += [] if "group" in given else _groups(others)
    classes = len(set(map(str, values[label]))) if kind["kind"] == "classification" else 0
    return Guess(named | kind | ids, reasons, classes)


def _prompts(values: Mapping[str, Sequence[Any]], given: Mapping[str, str]) -> Guess | None:
    """The guess at texts to generate; None where no columns are named so, or answers are few."""
    fields: dict[str, Any] = {"kind": "generation", "metric": "token_f1"}
    if (talks := _named("messages", list(values))) and _are_lists(values[talks]):
        fields |= {"text": talks, "label": talks, "chat": True}
        reason = f"{talks!r} holds conversations: the last message of each is to be generated."
        return Guess(fields | _id(values), [reason])
    prompt = given.get("text") or _named("prompt", list(values))
    answer = given.get("label") or _named("answer", list(values))
    if not prompt or not answer or not {prompt, answer} - {*given.values()}:
        return None
    if _named("label", [name for name in values if name not in (prompt, answer)]):
        return None  # texts with a label of their own
    distinct = set(map(str, values[answer]))
    if len(distinct) <= CLASSES or _numbers(values[answer])[0]:
        return None
    reasons = [
        f"{prompt!r} and {answer!r} hold {len(distinct)} answers: texts to generate, by names."
    ]
    ids = _id(values)
    unread = [name for name in values if name not in (prompt, answer, ids.get("id"))]
    if unread:
        few = ", ".join(map(repr, unread[:SHOWN]))
        reasons.append(f"not read: {few}; write what a model needs of them into the prompt.")
    return Guess(fields | {"text": prompt, "label": answer} | ids, reasons)


def _why_text(name: str) -> str:
    return "by its name" if name.lower() in NAMES["text"] else "the longest"


def _groups(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """What to write if rows of one value belong together, for columns where several rows have one.

    A column with few values is a property, such as a language, and no group of rows.
    """
    found = []
    for name, column in values.items():
        distinct = len(set(map(str, column)))
        dates = any(re.match(r"\d{4}-\d\d|\d+\.\d", str(value)) for value in column)
        if CLASSES < distinct <= REPEATED * len(column) and not dates:
            empty = sum(value is None or value == "" for value in column)
            filled = f", {empty} of them empty (fill those first)" if empty else ""
            found.append(
                f"split: random rows. {name!r} has {distinct} values in {len(column)} rows"
                f"{filled}; if rows of one belong together, write the file with --group {name}."
            )
    return found


def _absent(field: str, name: str, columns: Sequence[str]) -> Mistake:
    return Mistake(field, f"there is no column {name!r}. {did_you_mean(name, columns)}")


def _named(what: str, columns: Sequence[str], given: str | None = None) -> str:
    """The given column, or the first with a usual name, in any case; empty if it is not there."""
    if given:
        return given if given in columns else ""
    known = {column.lower(): column for column in reversed(columns)}
    return next((known[name] for name in NAMES[what] if name in known), "")


def _label(values: Mapping[str, Sequence[Any]]) -> str:
    """The column with a usual name, else the last one with few distinct values; else empty."""
    if named := _named("label", list(values)):
        return named
    if several := _named("several", [name for name, column in values.items() if _several(column)]):
        return several
    distinct = {name: len(set(map(str, column))) for name, column in values.items()}
    few = [
        name
        for name, count in distinct.items()
        if 2 <= count <= min(CLASSES, len(values[name]) - 1) and not _are_lists(values[name])
    ]
    flags = _flags(values)
    few = [name for name in few if name not in flags] or few
    return few[-1] if few else ""


def _texts(values: Mapping[str, Sequence[Any]], given: Mapping[str, str]) -> tuple[str, str | None]:
    """The column with the text and, by its name alone, that with a second one, unless given."""
    texts = {
        name: column for name, column in values.items() if any(isinstance(v, str) for v in column)
    }
    if not texts:
        return "", None
    longest = max(texts, key=lambda name: sum(map(len, map(str, texts[name]))))
    text = given.get("text") or _named("text", list(texts)) or longest
    others = [name for name in texts if name != text]
    pair = given.get("text_pair") or _named("text_pair", others)
    return text, pair or None


def _flags(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """Columns of 0 and 1."""
    either = {"0", "1", "0.0", "1.0", "False", "True"}
    return [name for name, column in values.items() if set(map(str, column)) <= either]


def _join_flags(flags: Sequence[str]) -> str:
    """How columns of 0 and 1 become one column of labels."""
    few = ", ".join(map(repr, flags[:SHOWN])) + (", …" if len(flags) > SHOWN else "")
    return (
        f"the columns {few} hold 0 and 1, as several labels per row do. Join them into one column "
        "of names with | between them: with pandas, "
        "`table['labels'] = (table[columns] == 1).apply(lambda row: '|'.join(row.index[row]), "
        "axis=1)`."
    )


def _several(column: Sequence[Any]) -> bool:
    """Whether values are lists, or names with `|`, commas or semicolons between them."""
    return _are_lists(column) or any("|" in str(v) for v in column) or _separated(column)


def _separated(column: Sequence[Any]) -> bool:
    """Whether values are names with commas or semicolons between them, combined in several ways."""
    texts = [str(value) for value in column]
    parts = [[part.strip() for part in re.split("[,;]", text)] for text in texts]
    several = [each for each in parts if len(each) > 1]
    names = {name for each in parts for name in each}
    if not all(re.search(r"[^\W\d]", name) for name in names if name):
        return False  # numbers, perhaps with a decimal comma
    values = {text: set(each) for text, each in zip(texts, parts, strict=True)}
    counts = Counter(name for each in values.values() for name in each if name)
    again = sum(count > 1 for count in counts.values())
    return len(several) > len(texts) / 20 and again >= REUSED * len(counts)


def _kind(label: str, column: Sequence[Any]) -> tuple[dict[str, Any], str]:
    """Kind, metric and, for regression, scale, with the reason."""
    if _separated(column):
        return {"kind": "multilabel", "metric": "micro_f1"}, (
            f"label: {label!r} holds names with commas between them, so kind is multilabel; write "
            "| between the names instead."
        )
    if _several(column):
        return {"kind": "multilabel", "metric": "micro_f1"}, (
            f"label: {label!r} holds several labels per row, so kind is multilabel."
        )
    counts = Counter(map(str, column))
    numbers, others = _numbers(column)
    many = len(counts) > FEW or any(number % 1 for number in numbers)
    if many and len(numbers) >= NUMERIC * len(column):
        low, high = min(numbers), max(numbers)
        kind = {"kind": "regression", "metric": "spearman", "standardise": True}
        reason = (
            f"label: {label!r} holds numbers from {low:g} to {high:g}: kind is regression, metric "
            "spearman (agreement of ranks; take mae or rmse if the size of an error counts), and "
            "labels are standardised."
        )
        if others:
            few = ", ".join(f"row {row} {column[row - 1]!r}" for row in others[:SHOWN])
            reason += f" Not numbers, to be corrected: {few}{', …' * (len(others) > SHOWN)}."
        return kind, reason
    share = counts.most_common(1)[0][1] / len(column)
    metric = "macro_f1" if share > UNEVEN else "accuracy"
    return {"kind": "classification", "metric": metric}, (
        f"label: {label!r} has {len(counts)} classes, the largest with {share:.0%} of the rows, so "
        f"the metric is {metric}."
    )


def _numbers(column: Sequence[Any]) -> tuple[list[float], list[int]]:
    """The values that are numbers, and the rows (from 1) of those that are not."""
    numbers, others = [], []
    for row, value in enumerate(column, start=1):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = np.nan
        if np.isfinite(number):
            numbers.append(number)
        else:
            others.append(row)
    return numbers, others


def _are_lists(column: Sequence[Any]) -> bool:
    return any(isinstance(value, list | tuple | np.ndarray) for value in column)


def _id(values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The column of ids; None where that named so repeats itself."""
    name = _named("id", list(values))
    if not name:
        return {}
    unique = len(set(map(str, values[name]))) == len(values[name])
    return {"id": name if unique else None}
