"""A task: which data, which head, and the metric that decides."""

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, field_validator

from study.core.spec import Mistake, Spec, SpecError, did_you_mean
from study.tasks import metrics
from study.tasks.kinds import KINDS, Kind, Split
from study.tasks.reading import Rows, read_rows, resolve
from study.tasks.splits import AnyDivision, ByGroup, KFold

SPLITS = ("train", "dev", "test")


class TaskData(NamedTuple):
    """A task's rows, read and checked.

    Attributes:
        splits: `train`, `dev` and `test`.
        kind: The kind of task, with its class names.
        fingerprint: Changes with any text, label, or order of any row in use.
        truncate: As in `Task`.
    """

    splits: dict[str, Split]
    kind: Kind
    fingerprint: str
    truncate: str


class Task(Spec):
    """Data, a head, and the metric that decides.

    Attributes:
        name: As in tables and run names.
        kind: Which head and loss, a name in `KINDS`: `classification` (cross-entropy),
            `regression` (squared error), `multilabel` (a list of labels, or one text with `|`
            between them), `tagging` (lists of words and of tags), `span` (the question in `text`,
            the context in `text_pair`, a list of answers with `text` and `start`), `image` (an
            image file as bytes or base64 text).
        metric: A name in `METRICS`, or `"module:name"` for a metric of your own.
        train: Where the rows are: a path to JSONL, CSV or Parquet (`.gz` where text), relative to
            the study's data folder, to `STUDY_DATA` or to the working directory; or
            `hf:DATASET:SPLIT` or `hf:DATASET/CONFIG:SPLIT` on the Hugging Face hub.
        dev: The same; configurations and epochs are chosen on it.
        test: The same; reported, never chosen on.
        split: How to divide the rows of `train` where `dev` and `test` are not given.
        text: Column with the (first) text, words, or image.
        text_pair: Column with the second text; None for single texts.
        label: Column with the label.
        id: Column with a unique id; rows are numbered where the data has none.
        truncate: What a pair that is too long loses: the end of its longer text
            (`longest_first`) or of the second (`only_second`), so that a question stays whole.
        labels: Class names, for `f1` and `micro_f1_excl_negative` the negative class first; None
            takes those found in `train`, sorted.
        train_rows: Size of the training subset; None trains on all rows. See `subset`.
        dev_rows: Size of the dev subset; None uses all rows.
        test_rows: Size of the test subset; None uses all rows.
        subset_seed: Draws the subset, the same for every run.
        published: Rows of train, dev and test, and words per row, as published; for plans that
            are made where the data are not.
        task_type: What it counts as in a suite's score, such as `NER`.
        folder: Where relative paths start; the study fills it in.
        source: Where the data comes from, under which licence, and how to get it; said where it is
            not found.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.@+-]*$")
    kind: str = "classification"
    metric: str = "accuracy"
    train: str
    dev: str | None = None
    test: str | None = None
    split: AnyDivision | None = None
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    id: str = "id"
    truncate: Literal["longest_first", "only_second"] = "longest_first"
    labels: tuple[str, ...] | None = None
    train_rows: int | None = Field(default=None, gt=0)
    dev_rows: int | None = Field(default=None, gt=0)
    test_rows: int | None = Field(default=None, gt=0)
    subset_seed: int = 0
    published: tuple[int, int, int, int] | None = None
    task_type: str = ""
    folder: str | None = None
    source: str = ""

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        try:
            metrics.metric_named(name)
        except LookupError as error:
            raise ValueError(error.args[0]) from error
        return name

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, name: str) -> str:
        if name not in KINDS:
            raise ValueError(f"{name!r} is not a kind of task. {did_you_mean(name, KINDS)}")
        return name

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """The metric scores what the head gives, and there are three splits."""
        given = [name for name in ("dev", "test") if fields.get(name) is not None]
        mistakes = []
        if fields.get("split") is None:
            missing = [name for name in ("dev", "test") if name not in given]
            hint = "is missing; name its rows, or say with `split` how to divide those of `train`."
            mistakes = [Mistake(name, hint) for name in missing]
        elif given:
            text = f"divides the rows of `train`; leave out {' and '.join(given)}."
            mistakes = [Mistake("split", text)]
        pairs = {"kind": "span", "truncate": "only_second"}
        if fields.get("text_pair") is None:
            mistakes += [
                Mistake(field, f"{value!r} needs `text_pair`, the column of the second text.")
                for field, value in pairs.items()
                if fields.get(field) == value
            ]
        return mistakes + cls._metric_mistakes(fields)

    @classmethod
    def _metric_mistakes(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        kind, name = fields.get("kind", "classification"), fields.get("metric", "accuracy")
        if name in ("f1", "micro_f1_excl_negative") and fields.get("labels") is None:
            text = f"{name!r} needs `labels`, the negative class first: the alphabet cannot tell."
            return [Mistake("labels", text)]
        metric = metrics.METRICS.get(name)
        if metric is None or kind not in KINDS or kind in metric.kinds:
            return []
        fitting = sorted(m.name for m in metrics.METRICS.values() if kind in m.kinds)
        text = f"{name!r} does not score a {kind} task. Fitting: {', '.join(fitting)}."
        return [Mistake("metric", text)]

    def subset(
        self, rows: int, *, seed: int, dev_rows: int | None = None, test_rows: int | None = None
    ) -> Self:
        """The same task with fewer rows, fixed over all seeds of a study; None keeps all.

        The name says the sizes: `gad@256d128t256` has 256 rows for training, 128 for dev, 256 for
        test.
        """
        return self.replace(
            name=f"{self.name}@{rows}"
            + (f"d{dev_rows}" if dev_rows else "")
            + (f"t{test_rows}" if test_rows else "")
            + (f".{seed}" if seed else ""),
            train_rows=rows,
            dev_rows=dev_rows,
            test_rows=test_rows,
            subset_seed=seed,
        )

    def folds(self) -> list[Self]:
        """A task for every fold of `split`, each with another part as test.

        A fold is a task of its own in tables: what scatters over folds is not what scatters over
        seeds.
        """
        if not isinstance(self.split, KFold | ByGroup):
            raise ValueError("folds: the task's `split` is neither KFold nor ByGroup.")
        return [
            self.replace(name=f"{self.name}.fold{fold}", split=self.split.replace(fold=fold))
            for fold in range(self.split.folds)
        ]

    def load(self) -> TaskData:
        """Read and check all rows; read once per process.

        Raises:
            SpecError: With every problem of the data, each naming file, row and column.
        """
        return _load(self, os.environ.get("STUDY_DATA"))

    def identity(self) -> dict[str, Any]:
        """What of the task decides a run's result."""
        deciding = {
            "kind": self.kind,
            "metric": self.metric,
            "pair": self.text_pair is not None,
            "data": self.load().fingerprint,
        }
        if self.truncate != "longest_first":  # left out at its default, as everywhere in keys
            deciding["truncate"] = self.truncate
        return deciding


@cache
def _load(task: Task, data_folder: str | None) -> TaskData:
    folders = [folder for folder in (task.folder, data_folder) if folder]
    tables, mistakes = _tables(task, folders)
    if mistakes:
        if task.source and any("no such file" in mistake.text for mistake in mistakes):
            mistakes.append(Mistake(f"task {task.name}", task.source))
        raise SpecError(f"the data of task {task.name!r}", mistakes)

    values = tables["train"].columns[task.label]
    kind = KINDS[task.kind](task.labels or KINDS[task.kind].found(values))
    if task.kind in ("classification", "image") and len(kind.labels) < 2:
        text = f"has the one label {kind.labels[0]!r}; a classification needs at least two."
        mistakes.append(Mistake(f"{tables['train'].source}, {task.label}", text))
    if task.metric == "f1" and len(kind.labels) > 2:
        text = f"'f1' needs two classes, there are {len(kind.labels)}; macro_f1 takes any number."
        mistakes.append(Mistake("metric", text))
    limits = {"train": task.train_rows, "dev": task.dev_rows, "test": task.test_rows}
    for split, limit in limits.items():
        there = len(tables[split].ids)
        if limit is not None and limit > there:
            text = f"{limit} is more than the {there} rows of {tables[split].source}."
            mistakes.append(Mistake(f"{split}_rows", text))
        elif limit is not None:
            tables[split] = _draw(tables[split], limit, task.subset_seed)

    splits = {}
    for split, rows in tables.items():
        splits[split], wrong = _split(rows, task, kind)
        mistakes += wrong
    mistakes += _repeated_ids(tables)
    if mistakes:
        raise SpecError(f"the data of task {task.name!r}", mistakes)
    return TaskData(splits, kind, _fingerprint(splits, kind.labels), task.truncate)


def _tables(task: Task, folders: list[str]) -> tuple[dict[str, Rows], list[Mistake]]:
    columns = [task.text, *([task.text_pair] if task.text_pair else []), task.label]
    optional = [task.label] if task.kind == "multilabel" else []  # no class at all
    if task.split is not None:
        columns += task.split.columns
        try:
            found = resolve(task.train, folders)
            rows = read_rows(found, columns, id_column=task.id, split="row", optional=optional)
            named = task.kind in ("classification", "image")
            parts = task.split.divide(rows, rows.columns[task.label] if named else None)
        except SpecError as error:
            return {}, error.mistakes
        return {name: rows.take(parts[name]) for name in SPLITS}, []
    tables, mistakes = {}, []
    for split in SPLITS:
        try:
            found = resolve(getattr(task, split), folders)
            tables[split] = read_rows(
                found, columns, id_column=task.id, split=split, optional=optional
            )
        except SpecError as error:
            mistakes += error.mistakes
    return tables, mistakes


def _split(rows: Rows, task: Task, kind: Kind) -> tuple[Split, list[Mistake]]:
    found: list[tuple[int, str, str]] = []
    texts = []
    for row, value in enumerate(rows.columns[task.text]):
        try:
            texts.append(kind.text(value))
        except ValueError as error:
            found.append((row, task.text, str(error)))
            texts.append(())
    pair = rows.columns[task.text_pair] if task.text_pair else None
    found += [
        (row, str(task.text_pair), f"{value!r} is not text.")
        for row, value in enumerate(pair or [])
        if not isinstance(value, str)
    ]
    gold, wrong = kind.gold(rows.columns[task.label], texts)
    found += [(row, task.label, text) for row, text in wrong]
    mistakes = [Mistake(f"{rows.where(row)}, {column}", text) for row, column, text in found[:10]]
    if len(found) > 10:
        mistakes.append(Mistake(rows.source, f"and {len(found) - 10} more mistakes like these."))
    return Split(rows.ids, texts, pair, gold), mistakes


def _repeated_ids(tables: dict[str, Rows]) -> list[Mistake]:
    seen: dict[str, str] = {}
    mistakes = []
    for rows in tables.values():
        for number, id_ in enumerate(rows.ids):
            if id_ in seen:
                mistakes.append(
                    Mistake(rows.where(number), f"repeats the id {id_!r} of {seen[id_]}.")
                )
            seen[id_] = rows.where(number)
    return mistakes[:10]


def _draw(rows: Rows, limit: int, seed: int) -> Rows:
    """A random subset in the original order; hashing ids keeps smaller subsets inside larger."""
    rank = [hashlib.sha256(f"{seed}/{id_}".encode()).digest() for id_ in rows.ids]
    chosen = sorted(sorted(range(len(rank)), key=rank.__getitem__)[:limit])
    return rows.take(chosen)


def _fingerprint(splits: dict[str, Split], labels: tuple[str, ...]) -> str:
    hashed = hashlib.sha256(repr(labels).encode())
    for name, split in splits.items():
        hashed.update(f"{name} {len(split.ids)}".encode())
        hashed.update(repr((split.text, split.text_pair)).encode())
        gold = split.gold
        hashed.update(gold.tobytes() if isinstance(gold, np.ndarray) else repr(gold).encode())
    return hashed.hexdigest()[:16]
