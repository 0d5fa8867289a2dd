"""`Task`: data, a kind of head, and the metric."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, field_validator

from study.core.spec import Mistake, Spec, SpecError, did_you_mean, few
from study.tasks import checks, metrics
from study.tasks.kinds import KINDS, Generation, Kind, Regression, Split
from study.tasks.kinds.conversations import conversation
from study.tasks.pictures import read_folder, with_files
from study.tasks.reading import read_rows, resolve
from study.tasks.rows import Rows
from study.tasks.splits import AnyDivision, ByGroup, KFold

SPLITS = ("train", "dev", "test")


class TaskData(NamedTuple):
    """A task's rows, read and validated.

    Attributes:
        splits: `train`, `dev` and `test`.
        kind: The kind of task, with its class names.
        fingerprint: Changes with the text, label or order of any row in use.
        truncate: As in `Task`.
        origins: Per split the source of each row, with the values of those columns only that the
            task is divided by.

    Example:
        >>> from study.tasks import TERMS
        >>> data = TERMS.load()
        >>> list(data.splits), data.kind.labels
        (['train', 'dev', 'test'], ('different', 'same'))
    """

    splits: dict[str, Split]
    kind: Kind
    fingerprint: str
    truncate: str
    origins: dict[str, Rows]


class Task(Spec):
    """Data, a kind of head, and the metric.

    Attributes:
        name: Shown in tables and run names.
        kind: Head and loss, a name in `KINDS`: `classification` (cross-entropy), `regression`
            (squared error), `multilabel` (labels are a list, one text with `|` between them, or
            with `labels` a 0 or 1 per class), `tagging` (lists of words and of tags), `span` (the
            question in `text`, the context in `text_pair`, a list of answers with `text` and
            `start`, or as in SQuAD), `image` (an image file: its name, bytes or base64 text),
            `generation` (the prompt in `text`, the text to generate in the label). Lists may be
            written as text, in JSON or as Python prints them.
        metric: A name in `METRICS`, or `"module:name"` for a custom metric.
        train: Source of the training rows: a path to JSONL, CSV, TSV, Parquet or, for tagging,
            CoNLL (text may be `.gz`), or to a folder with one folder of images per class; relative
            to the study's data folder or else its file, to `STUDY_DATA` or to the working
            directory. Or `hf:DATASET:SPLIT` or `hf:DATASET/CONFIG:SPLIT` on the Hugging Face hub,
            where a split may be a part such as `train[:90%]`. A task that a study only measures, in
            `retains`, needs none, nor `dev`.
        dev: Source of the dev rows, on which configurations and epochs are selected.
        test: Source of the test rows, which are reported and never used for selection.
        split: How to divide the rows of `train` if `dev` and `test` are not given.
        text: Column with the (first) text, words, or image.
        text_pair: Column with the second text; None for single texts.
        label: Column with the label.
        standardise: For regression: train on labels less their mean, divided by their standard
            deviation, both of the training rows in use. Scores, floors and predictions stay in the
            label's unit. Set it for labels far from unit scale, such as 0 to 100.
        chat: For generation: write prompts and answers as turns of a conversation, by the
            checkpoint's chat template. A prompt may then be a list of messages, objects with
            `role` (`system`, `user`, `assistant`) and `content`, of which the last is the user's.
            Where `label` names the same column as `text`, conversations are whole, and the last
            message, the assistant's, is the answer.
        end: For generation: learn and score the end after an answer. Without it an answer is right
            if generation begins with it, as for words that complete a sentence.
        loss_per: For generation: the loss is a mean over the tokens of answers, or (`row`) over
            rows of their tokens' means, so that a long answer counts no more than a short one.
        choices: For generation: column with a list of texts, one of which is the label; the most
            likely one is chosen. Scored by `choice_accuracy`, or `perplexity` of the right one.
        id: Column with a unique id. Without a column `id`, rows are numbered; None numbers them
            even if there is such a column.
        truncate: Truncation of pairs that are too long: of the longer text (`longest_first`), or
            only of the second (`only_second`), which keeps a question complete.
        labels: Class names, with the negative class first for `f1` and `micro_f1_excl_negative`;
            None takes those in the data, sorted.
        train_rows: Size of the training subset; None trains on all rows. See `subset`.
        dev_rows: Size of the dev subset; None uses all rows.
        test_rows: Size of the test subset; None uses all rows.
        subset_seed: Seed of the subset, the same for every run.
        published: Published numbers of rows in train, dev and test, and of words per row, for
            `study plan` without the data.
        task_type: Group in a suite's score, such as `NER`.
        folder: Base folder of relative paths, before the working directory; set by the study.
        source: Origin of the data, licence, and how to get it; shown if the files are missing.

    Example:
        >>> from study import KFold, Task
        >>> task = Task(
        ...     name="reviews", train="reviews.csv", metric="macro_f1", split=KFold(folds=5)
        ... )
        >>> task.subset(256, seed=0).name
        'reviews@256'
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.@+-]*$")
    kind: str = "classification"
    metric: str = "accuracy"
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    split: AnyDivision | None = None
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    standardise: bool = False
    chat: bool = False
    end: bool = True
    loss_per: Literal["token", "row"] = "token"
    choices: str | None = None
    id: str | None = "id"
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

    @field_validator("labels", mode="before")
    @classmethod
    def _as_text(cls, labels: Any) -> Any:
        """Numbers as they are compared with labels in the data, which are numbers or texts."""
        if not isinstance(labels, list | tuple):
            return labels
        return [str(label) if isinstance(label, int | float) else label for label in labels]

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
        """The metric fits the kind, all three splits are defined, and pairs have two columns."""
        mistakes = cls._source_mistakes(fields)
        pairs = {"kind": "span", "truncate": "only_second"}
        if fields.get("text_pair") is None:
            mistakes += [
                Mistake(field, f"{value!r} needs `text_pair`, the column of the second text.")
                for field, value in pairs.items()
                if fields.get(field) == value
            ]
        text_column, label = fields.get("text", "text"), fields.get("label", "label")
        split = fields.get("split")
        if isinstance(split, ByGroup) and label == split.column:
            text = f"{label!r} is the label, so that each part would have labels of its own; name "
            text += "another column."
            mistakes.append(Mistake("split.column", text))
        kind = fields.get("kind", "classification")
        if fields.get("standardise") and kind != "regression":
            text = f"is for regression; a {kind} task has no values to standardise."
            mistakes.append(Mistake("standardise", text))
        if fields.get("chat") and kind != "generation":
            text = f"is for generation; a {kind} task has no conversations."
            mistakes.append(Mistake("chat", text))
        mistakes += cls._choices_mistakes(fields)
        if fields.get("end") is False and kind != "generation":
            text = f"is for generation; a {kind} task has no texts that end."
            mistakes.append(Mistake("end", text))
        if fields.get("loss_per", "token") != "token" and kind != "generation":
            mistakes.append(Mistake("loss_per", f"is for generation, not for {kind}."))
        if kind == "generation" and fields.get("text_pair") is not None:
            text = "is not read by a generation task; write both texts into the prompt."
            mistakes.append(Mistake("text_pair", text))
        whole = kind == "generation" and fields.get("chat") and label == text_column
        if label in (text_column, fields.get("text_pair")) and not whole:
            text = f"is {label!r}, as the text is; a model would read the answer."
            mistakes.append(Mistake("label", text))
        return mistakes + cls._metric_mistakes(fields)

    @classmethod
    def _choices_mistakes(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """Whether choices and metric belong together."""
        kind, metric = fields.get("kind", "classification"), fields.get("metric", "accuracy")
        if fields.get("choices") is None:
            if metric != "choice_accuracy":
                return []
            return [
                Mistake("choices", "is missing; 'choice_accuracy' needs the column of choices.")
            ]
        if kind != "generation":
            return [Mistake("choices", f"is for generation; a {kind} task has classes.")]
        if metric not in ("choice_accuracy", "perplexity"):
            text = f"{metric!r} compares no choices; use choice_accuracy or perplexity."
            return [Mistake("metric", text)]
        return []

    @classmethod
    def _source_mistakes(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """Whether all splits are defined; a task that is only measured has test rows alone."""
        given = [name for name in SPLITS if fields.get(name) is not None]
        if given == ["test"] and fields.get("split") is None:
            return [
                Mistake(name, "limits rows that the task lacks: it has no `train`.")
                for name in ("train_rows", "dev_rows")
                if fields.get(name) is not None
            ]
        if "train" not in given:
            return [Mistake("train", "is missing; name the file with the training rows.")]
        given.remove("train")
        if fields.get("split") is None:
            hint = (
                "is missing; name its file, or divide `train`, such as with split=KFold(folds=5)."
            )
            return [Mistake(name, hint) for name in ("dev", "test") if name not in given]
        if given:
            text = f"`split` already divides the rows of `train`; remove {' and '.join(given)}."
            return [Mistake("split", text)]
        return []

    @classmethod
    def _metric_mistakes(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        kind, name = fields.get("kind", "classification"), fields.get("metric", "accuracy")
        if name in ("f1", "micro_f1_excl_negative") and fields.get("labels") is None:
            text = f"{name!r} needs `labels` with the negative class first; the data has no order."
            text += " For more than two classes write metric='macro_f1'." if name == "f1" else ""
            return [Mistake("labels", text)]
        metric = metrics.METRICS.get(name)
        if metric is None or kind not in KINDS or kind in metric.kinds:
            return []
        suitable = sorted(m.name for m in metrics.METRICS.values() if kind in m.kinds)
        text = f"{name!r} cannot score a {kind} task; use one of {', '.join(suitable)}."
        return [Mistake("metric", text)]

    def subset(
        self, rows: int, *, seed: int, dev_rows: int | None = None, test_rows: int | None = None
    ) -> Self:
        """The same task on a random subset of rows, which is the same for all runs.

        The name has the sizes: `gad@256d128t256` has 256 training rows, 128 dev rows and 256 test
        rows. A smaller subset with the same seed is part of a larger one.

        Args:
            rows: Size of the training subset.
            seed: Seed of the subsets.
            dev_rows: Size of the dev subset; None keeps all rows.
            test_rows: Size of the test subset; None keeps all rows.
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
        """One task per fold of `split`, each with another fold as test.

        Tables show each fold as a separate task, because variance over folds and variance over
        seeds are different quantities.

        Raises:
            ValueError: If `split` has no folds.
        """
        if not isinstance(self.split, KFold | ByGroup):
            raise ValueError(f"split: {self.split!r} has no folds; use KFold or ByGroup.")
        return [
            self.replace(name=f"{self.name}.fold{fold}", split=self.split.replace(fold=fold))
            for fold in range(self.split.folds)
        ]

    @property
    def is_relative(self) -> bool:
        """Whether a source is a relative path."""
        sources = filter(None, (self.train, self.dev, self.test))
        elsewhere = ("hf:", "bundled:")
        return any(not s.startswith(elsewhere) and not Path(s).is_absolute() for s in sources)

    def load(self) -> TaskData:
        """Read and validate all rows; cached per process.

        Raises:
            SpecError: With all problems of the data, each with file, row and column.
        """
        return _load(self, os.environ.get("STUDY_DATA"))

    def identity(self) -> dict[str, Any]:
        """The task's part of a run's key: everything about it that affects a run's result."""
        identity = {
            "kind": self.kind,
            "metric": self.metric,
            "pair": self.text_pair is not None,
            "data": self.load().fingerprint,
        }
        if self.truncate != "longest_first":  # keys leave out defaults
            identity["truncate"] = self.truncate
        if self.standardise:
            identity["standardise"] = True
        if self.chat:
            identity["chat"] = True
        if not self.end:
            identity["end"] = False
        if self.loss_per != "token":
            identity["loss_per"] = self.loss_per
        return identity


@cache
def _load(task: Task, data_folder: str | None) -> TaskData:
    folders = [folder for folder in (task.folder, data_folder) if folder]
    tables, mistakes = _tables(task, folders)
    if mistakes:
        if task.source and any("no such file" in mistake.text for mistake in mistakes):
            mistakes.append(Mistake(f"task {task.name}", task.source))
        raise SpecError(f"the data of task {task.name!r}", mistakes)

    values = chain.from_iterable(rows.columns[task.label] for rows in tables.values())
    kind = KINDS[task.kind](task.labels or KINDS[task.kind].class_names(values))
    if isinstance(kind, Generation):
        choices = task.choices is not None
        kind = replace(kind, chat=task.chat, end=task.end, choices=choices, loss_per=task.loss_per)
    labels = f"{next(iter(tables.values())).source}, {task.label}"
    mistakes += checks.count_mistakes(kind, task.metric, labels)
    if task.labels is None:
        mistakes += checks.spelling_mistakes(kind, tables, task.label)
    limits = {"train": task.train_rows, "dev": task.dev_rows, "test": task.test_rows}
    for split, limit in ((name, limits[name]) for name in tables):
        available = len(tables[split].ids)
        if limit is not None and limit > available:
            part = f"{split} part of {tables[split].source}" if task.split else tables[split].source
            text = f"{limit} is more than the {available} rows of {part}."
            mistakes.append(Mistake(f"{split}_rows", text))
        elif limit is not None:
            tables[split] = _subset(tables[split], limit, task.subset_seed)

    splits = {}
    for split, rows in tables.items():
        splits[split], row_mistakes = _split(rows, task, kind)
        mistakes += row_mistakes
    mistakes += checks.repeated_ids(list(tables.values()))
    if task.standardise and not mistakes:
        mistakes += checks.constant_labels(splits["train"], labels)
    if mistakes:
        raise SpecError(f"the data of task {task.name!r}", mistakes)
    if task.standardise and isinstance(kind, Regression):
        kind = kind.standardise(splits["train"].gold)
    dividing = task.split.columns if task.split else []
    origins = {
        split: replace(rows, columns={name: rows.columns[name] for name in dividing})
        for split, rows in tables.items()
    }
    return TaskData(splits, kind, _fingerprint(splits, kind.labels), task.truncate, origins)


def _tables(task: Task, folders: list[str]) -> tuple[dict[str, Rows], list[Mistake]]:
    if task.split is not None and task.train is not None:
        try:
            rows = _read(task, task.train, "row", folders)
            stratified = task.kind in ("classification", "image")
            parts = task.split.divide(rows, rows.columns[task.label] if stratified else None)
        except SpecError as error:
            return {}, error.mistakes
        return {name: rows.take(parts[name]) for name in SPLITS}, []
    tables, mistakes = {}, []
    for split in SPLITS:
        source = getattr(task, split)
        if source is None:  # of a task that is only measured
            continue
        try:
            tables[split] = _read(task, source, split, folders)
        except SpecError as error:
            mistakes += error.mistakes
    return tables, mistakes


def _read(task: Task, name: str, split: str, folders: list[str]) -> Rows:
    """The rows of one source of a task; `split` is the prefix of ids that are made."""
    source = resolve(name, folders)
    if isinstance(source, Path) and source.is_dir():
        if task.kind != "image":
            text = "is a folder, which only a task of kind 'image' reads; name a file."
            raise SpecError("data", [Mistake(str(source), text)])
        return read_folder(source, text=task.text, label=task.label, id_column=task.id)
    columns = {task.text: "text", task.label: "label"}
    if task.text_pair:
        columns.setdefault(task.text_pair, "text_pair")
    if task.choices:
        columns.setdefault(task.choices, "choices")
    if task.split is not None:
        for column in task.split.columns:
            columns.setdefault(column, "split")
    # An example may have no class, and a question no answer.
    optional = [task.label] if task.kind in ("multilabel", "span") else []
    rows = read_rows(source, columns, id_column=task.id, split=split, optional=optional)
    if task.kind == "image" and isinstance(source, Path):
        return with_files(rows, task.text, source.parent)
    return rows


def _split(rows: Rows, task: Task, kind: Kind) -> tuple[Split, list[Mistake]]:
    problems: list[tuple[int, str, str]] = []  # row, column, message
    texts = []
    given, labels = rows.columns[task.text], rows.columns[task.label]
    if task.text == task.label:
        given, labels = map(list, zip(*map(conversation, given), strict=True))
    for row, value in enumerate(given):
        try:
            texts.append(kind.parse_text(value))
        except ValueError as error:
            problems.append((row, task.text, str(error)))
            texts.append(())
    pair = rows.columns[task.text_pair] if task.text_pair else None
    problems += [
        (row, str(task.text_pair), f"{value!r} is not text.")
        for row, value in enumerate(pair or [])
        if not isinstance(value, str)
    ]
    beside = rows.columns[task.choices] if task.choices else pair
    # Texts as parsed, since a list may be written as text.
    used = [(task.text, texts), (task.text_pair or task.choices, beside), (task.label, labels)]
    problems += [
        (row, str(name), checks.BROKEN)
        for name, values in used
        for row, value in enumerate(values or [])
        if checks.is_broken(value)
    ]
    problems += [
        (row, str(task.id), checks.BROKEN)
        for row, id_ in enumerate(rows.ids)
        if checks.is_broken(id_)
    ]
    gold, label_mistakes = kind.gold(labels, texts, beside)
    if task.metric == "entity_f1_strict" and not label_mistakes:
        label_mistakes = checks.not_counted(gold)
    problems += [(row, task.label, text) for row, text in label_mistakes]
    mistakes = [Mistake(f"{rows.location(row)}, {name}", text) for row, name, text in problems]
    return Split(rows.ids, texts, pair, gold), few(mistakes, rows.source)


def _subset(rows: Rows, limit: int, seed: int) -> Rows:
    """A random subset in the original order; hashes of ids make smaller ones part of larger."""
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
