"""What a user should know of a study that can run: labels, classes and texts that cost scores."""

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from study.models.families import longest_input
from study.models.loading import configuration
from study.planning.preflight import max_lengths
from study.planning.study import Study
from study.tasks import Task, TaskData
from study.tasks.collapse import floor_of, margin
from study.tasks.kinds import Split
from study.tasks.metrics import Metric, metric_named
from study.tasks.splits import ByGroup
from study.training.prepare import truncation_of
from study.training.truncation import Truncation

# Of labels that a new head can be trained on as they are: those of STS-B, 0 to 5, have a root mean
# square of 3.1 and a standard deviation of 1.5. In eight epochs of MiniLM on BIOSSES the loss came
# down to the variance of the labels when scaled to 0 to 10 (6.6), and not at 0 to 20 (13).
UNIT_SCALE, MINIMUM_SD = 10.0, 0.1
SHARED = 0.01  # share of the rows of dev or test that train may have without a note
RARE = 20  # rows; the F1 of a class with fewer moves by points with each of them
CLASSES = 12  # classes of which `data_lines` gives the numbers


def notes(study: Study, encoded: Path | None = None) -> list[str]:
    """What a user should know of a study that can run; call it after `problems`, which reads all.

    Args:
        study: The study.
        encoded: As for `problems`.
    """
    return _data_notes(study) + _cut_texts(study, encoded)


def data_lines(study: Study) -> list[str]:
    """The rows of each task's parts, and how often each class occurs; call it after `problems`.

    Misspelt classes, and parts with other shares of the classes, are seen there.
    """
    found = []
    for task in study.located_tasks():
        data = task.load()
        rows = ", ".join(f"{len(split.ids):,} {name}" for name, split in data.splits.items())
        labels = np.array(data.kind.labels)
        counts = [_class_counts(split.gold, labels) for split in data.splits.values()]
        classes = [
            f"{label} {' / '.join(str(each.get(label, 0)) for each in counts)}"
            for label in labels[:CLASSES].tolist()
        ]
        more = f", and {len(labels) - CLASSES} more" if len(labels) > CLASSES else ""
        listed = f"; {', '.join(classes)}{more}" if any(counts) else ""
        found.append(f"task {task.name!r}: {rows} rows{listed}{_grouped(task, data)}")
        if not data.kind.words:  # of tags, seconds
            found.append(f"task {task.name!r}: {_bar(task, data)}")
    for task in study.located_retains():
        count = len(task.load().splits["test"].ids)
        found.append(f"task {task.name!r}: {count:,} test rows, scored before and after training")
    return found


def _grouped(task: Task, data: TaskData) -> str:
    """How many groups each part has, where rows are divided by group."""
    if not isinstance(task.split, ByGroup):
        return ""
    column = task.split.column
    counts = [len(set(map(str, rows.columns[column]))) for rows in data.origins.values()]
    return f"; {' / '.join(map(str, counts))} different {column!r}"


def _bar(task: Task, data: TaskData) -> str:
    """What a constant answer scores on dev, and the bar that a run must exceed there."""
    metric, dev = metric_named(task.metric), data.splits["dev"]
    lowest = floor_of(metric, data.kind, dev)
    if np.isnan(lowest):  # a perplexity depends on the model's tokens
        return f"what a constant answer scores on dev ({metric.name}) is known with the first run"
    above = margin(metric, lowest, len(dev.ids))
    bar = lowest + (above if metric.higher_is_better else -above)
    scale = 100 if metric.bounded else 1
    unit = f"{metric.name}, in points" if metric.bounded else metric.name
    side = "up to" if metric.higher_is_better else "down to"
    return (
        f"a constant answer scores {lowest * scale:.3g} on dev ({unit}); a run counts as "
        f"collapsed {side} {bar * scale:.3g}{_why_above(metric, above)}"
    )


def _why_above(metric: Metric, above: float) -> str:
    """Why the bar is above the constant answer's score."""
    if not metric.bounded or above <= 0.01:
        return ""
    return ", which chance can reach on so few rows"


def _class_counts(gold: Any, labels: Any) -> dict[str, int]:
    """How many rows have each class; none for values, spans and tags."""
    if not len(labels) or not isinstance(gold, np.ndarray):
        return {}
    counts = gold.sum(axis=0) if gold.ndim == 2 else np.bincount(gold, minlength=len(labels))
    return dict(zip(labels.tolist(), counts.astype(int).tolist(), strict=True))


def _cut_texts(study: Study, encoded: Path | None) -> list[str]:
    """What the maximum length cuts, by task and length; a range over models."""
    found: dict[tuple[str, int], dict[str, Truncation]] = {}
    tasks = [*study.located_tasks(), *study.located_retains()]
    for task, model in product(tasks, study.models):
        longest = longest_input(configuration(model)) or sys.maxsize
        for length in max_lengths(study, task):
            cut = truncation_of(task.load(), model, length, encoded)
            if cut and cut.rows:
                cut = cut._replace(proposed=min(cut.proposed, longest))
                found.setdefault((task.name, length), {})[model.name] = cut
    return [_cut_text(task, length, cuts) for (task, length), cuts in found.items()]


def _cut_text(task: str, length: int, cuts: Mapping[str, Truncation]) -> str:
    rows, tokens = (_range([cut[i] for cut in cuts.values()]) for i in (0, 1))
    text = (
        f"task {task!r} at max_length={length}: {rows} of the rows are cut and lose {tokens} of "
        f"all tokens ({', '.join(cuts)})"
    )
    proposed = max(cut.proposed for cut in cuts.values())
    return f"{text}; max_length={proposed} would cut fewer." if proposed > length else f"{text}."


def _range(shares: Sequence[float]) -> str:
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low} to {high}"


def _data_notes(study: Study) -> list[str]:
    """Labels far from unit scale, classes that a split lacks, and rows that parts share."""
    found = []
    for task in study.located_tasks():
        data = task.load()
        told = _shared_texts(data) + _group_notes(task, data)
        if task.kind == "regression" and not task.standardise:
            told += _scale_notes(data)
        if task.labels is None:
            told += _class_notes(data)
        if task.metric == "macro_f1":
            told += _rare_classes(data)
        found += [f"task {task.name!r}: {note}" for note in told]
    return found


def _shared_texts(data: TaskData) -> list[str]:
    """Whether inputs of dev and test are in train as well, so that memory is rewarded."""
    inputs = {name: _inputs(split) for name, split in data.splits.items()}
    known = set(inputs["train"])
    counts = {name: sum(each in known for each in inputs[name]) for name in ("dev", "test")}
    shares = [
        f"{count:,} of the {len(inputs[name]):,} rows of {name}"
        for name, count in counts.items()
        if count >= SHARED * len(inputs[name])
    ]
    if not shares:
        return []
    return [
        f"train has the same input as {' and '.join(shares)}, which a model can answer from "
        "memory; remove repeated rows, or keep them in one part with split=ByGroup(...)."
    ]


def _inputs(split: Split) -> list[Any]:
    """What a model reads of each row, in a form that can be compared."""
    texts = [tuple(text) if isinstance(text, list) else text for text in split.text]
    return list(zip(texts, split.text_pair or texts, strict=True))


def _group_notes(task: Task, data: TaskData) -> list[str]:
    """Whether a split by group divides rows at random, since every row is a group of its own."""
    if not isinstance(task.split, ByGroup):
        return []
    column = task.split.column
    groups = [str(value) for rows in data.origins.values() for value in rows.columns[column]]
    if len(set(groups)) < len(groups):
        return []
    return [
        f"no two of its rows have the same {column!r}, so ByGroup divides them as KFold does; name "
        "the column that says which rows belong together."
    ]


def _scale_notes(data: TaskData) -> list[str]:
    """Whether labels are far from unit scale.

    A new head answers about 0, and the steps of fine-tuning are too small to reach labels of more
    than `UNIT_SCALE` (root mean square), or to tell those apart that vary less than `MINIMUM_SD`
    (standard deviation).
    """
    gold = data.splits["train"].gold
    size, sd = float(np.sqrt(np.mean(gold**2))), float(np.std(gold))
    if size <= UNIT_SCALE and sd >= MINIMUM_SD:
        return []
    return [
        f"its labels are far from unit scale ({gold.min():g} to {gold.max():g}, mean "
        f"{gold.mean():.3g}, sd {sd:.3g}), and runs may train to a constant; write "
        "Task(..., standardise=True)."
    ]


def _class_notes(data: TaskData) -> list[str]:
    """Classes of dev and test that no run can learn."""
    labels = np.array(data.kind.labels)
    used = {split: _classes(rows.gold, labels) for split, rows in data.splits.items()}
    return [
        f"no row of train has these labels of {split}, so no run can learn them: "
        f"{', '.join(map(repr, new))}."
        for split in ("dev", "test")
        if (new := sorted(used[split] - used["train"]))
    ]


def _rare_classes(data: TaskData) -> list[str]:
    """Classes of few rows, which have as much weight in macro F1 as all others."""
    labels = np.array(data.kind.labels)
    counts = {name: _class_counts(data.splits[name].gold, labels) for name in ("dev", "test")}
    rare = {
        label: " / ".join(str(each.get(label, 0)) for each in counts.values())
        for label in labels.tolist()
        if min(each.get(label, 0) for each in counts.values()) < RARE
    }
    if not rare:
        return []
    few = ", ".join(f"{label!r} {count}" for label, count in list(rare.items())[:CLASSES])
    return [
        "few rows of dev / test have these classes, and each has as much weight in macro_f1 as "
        f"the others: {few}. More rows of them, or another metric, make scores steadier."
    ]


def _classes(gold: Any, labels: Any) -> set[str]:
    """The classes that occur among gold answers; none for values and spans."""
    if not len(labels):
        return set()
    if not isinstance(gold, np.ndarray):
        return {tag for tags in gold for tag in tags}
    return set(labels[gold.any(axis=0) if gold.ndim == 2 else np.unique(gold)].tolist())
