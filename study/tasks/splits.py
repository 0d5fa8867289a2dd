"""Splits of a file's rows into train, dev and test: random, by group, or by time."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny

from study.core.spec import Mistake, Spec, SpecError, few
from study.tasks.checks import misspelt
from study.tasks.reading import is_number
from study.tasks.rows import Rows

MANY_CLASSES = 20  # numbers; more are hardly meant as classes where one is too rare to divide
Parts = dict[str, list[int]]  # row indices of `train`, `dev` and `test`


class Division(Spec):
    """The base class of splits."""

    @property
    def columns(self) -> list[str]:
        """Columns that it needs besides texts and labels."""
        return []

    @abstractmethod
    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Assign rows to train, dev and test.

        Args:
            rows: All rows.
            labels: Classes to stratify by; None for other kinds of task.

        Raises:
            SpecError: If these rows cannot be divided in this way.
        """


class KFold(Division):
    """Random folds: one is test, the next one dev, the others train.

    Attributes:
        folds: Number of folds.
        fold: The fold that is test, counted from 0.
        seed: Seed of the folds, the same for every run.

    Example:
        >>> from study import KFold, Task
        >>> task = Task(name="reviews", train="reviews.csv", split=KFold(folds=5))
        >>> [fold.name for fold in task.folds()][:2]
        ['reviews.fold0', 'reviews.fold1']

    Source: scikit-learn's StratifiedKFold for classes, KFold for other kinds of task.
    """

    folds: int = Field(ge=3)
    fold: int = Field(default=0, ge=0)
    seed: int = 0

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """`fold` is in [0, folds - 1]."""
        return _fold_in_range(fields)

    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Stratified by class, if there are classes."""
        from sklearn import model_selection  # slow to import

        count = len(rows.ids)
        _check_folds(self.folds, count, f"{count} rows of {rows.source}")
        classes = [str(label) for label in labels] if labels is not None else [""] * count
        _check_classes(self.folds, classes)
        splitter = model_selection.KFold if labels is None else model_selection.StratifiedKFold
        folds = splitter(self.folds, shuffle=True, random_state=self.seed)
        return _parts([test for _, test in folds.split(classes, classes)], self.fold)


class ByGroup(Division):
    """Random folds of whole groups, such as all rows of a patient or a document.

    As in `KFold`, one fold is test, the next one dev, the others train.

    Attributes:
        column: Column with the group of a row.
        folds: Number of folds.
        fold: The fold that is test, counted from 0.
        seed: Seed of the folds, the same for every run.
        stratify: Whether to also spread the classes evenly over the folds, as far as whole groups
            allow.

    Example:
        >>> from study import ByGroup, Task
        >>> task = Task(name="notes", train="notes.csv", split=ByGroup(column="patient", folds=5))
        >>> len(task.folds())
        5

    Source: scikit-learn's GroupKFold, and StratifiedGroupKFold where stratified.
    """

    column: str
    folds: int = Field(ge=3)
    fold: int = Field(default=0, ge=0)
    seed: int = 0
    stratify: bool = False

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """`fold` is in [0, folds - 1]."""
        return _fold_in_range(fields)

    @property
    def columns(self) -> list[str]:
        """The group column."""
        return [self.column]

    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Folds of about equal size; no group is in two of them."""
        from sklearn import model_selection  # slow to import

        groups = [str(value) for value in rows.columns[self.column]]
        distinct = len(set(groups))
        _check_folds(self.folds, distinct, f"{distinct} groups in {self.column!r} of {rows.source}")
        splitter = model_selection.GroupKFold
        if self.stratify:
            if labels is None:
                text = "needs one class per row, which other kinds of task lack; remove it."
                raise SpecError("data", [Mistake("split.stratify", text)])
            splitter = model_selection.StratifiedGroupKFold
            _check_classes(self.folds, labels)
        folds = splitter(self.folds, shuffle=True, random_state=self.seed)
        classes = None if labels is None else [str(label) for label in labels]
        parts = [test for _, test in folds.split(groups, classes, groups)]
        if not all(map(len, parts)):
            text = f"leaves one of {self.folds} folds without rows; use fewer folds."
            raise SpecError("data", [Mistake("split.stratify", text)])
        return _parts(parts, self.fold)


class ByTime(Division):
    """A split by time: the newest rows are test, those before them dev, the oldest train.

    Rows with the same time stay together, in the later part.

    Attributes:
        column: Column with times: numbers, or ISO 8601 dates. A date without an offset from UTC is
            in UTC, so that the parts do not depend on the machine's time zone.
        dev: Share of the rows in dev.
        test: Share of the rows in test.
        format: How dates are written where not in ISO 8601, in the codes of Python's `strptime`,
            such as `%d.%m.%Y`.

    Example:
        >>> from study import ByTime, Task
        >>> split = ByTime(column="date", dev=0.1, test=0.2)
        >>> Task(name="news", train="news.csv", split=split).split.test
        0.2
    """

    column: str
    dev: float = Field(default=0.15, gt=0.0, lt=1.0)
    test: float = Field(default=0.15, gt=0.0, lt=1.0)
    format: str | None = None

    @property
    def columns(self) -> list[str]:
        """The time column."""
        return [self.column]

    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Divided at two points in time."""
        times = _times(rows, self.column, self.format)
        ordered = np.sort(times)
        count = len(ordered)
        test_start = ordered[count - max(1, round(self.test * count))]
        dev_start = ordered[max(0, count - max(2, round((self.test + self.dev) * count)))]
        part = np.where(times >= test_start, "test", np.where(times >= dev_start, "dev", "train"))
        parts = {name: np.flatnonzero(part == name).tolist() for name in ("train", "dev", "test")}
        if empty := [name for name, chosen in parts.items() if not chosen]:
            text = f"leaves no rows for {' and '.join(empty)}; too many rows share one time."
            raise SpecError("data", [Mistake(f"{rows.source}, {self.column}", text)])
        return parts


def _as_division(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    kind: type[Division] = ByTime if "folds" not in value else KFold
    return (ByGroup if {"folds", "column"} <= set(value) else kind)(**value)


AnyDivision = Annotated[SerializeAsAny[Division], BeforeValidator(_as_division)]


def _parts(tests: list[Any], fold: int) -> Parts:
    test, dev = tests[fold], tests[(fold + 1) % len(tests)]
    train = [t for i, t in enumerate(tests) if i not in (fold, (fold + 1) % len(tests))]
    return {
        "train": sorted(np.concatenate(train).tolist()),
        "dev": sorted(dev.tolist()),
        "test": sorted(test.tolist()),
    }


def _times(rows: Rows, column: str, written: str | None) -> Any:
    """The times of the rows, numbers as they are and dates in seconds.

    Args:
        rows: The rows.
        column: Column with the times.
        written: The format of dates; None accepts numbers and ISO dates.

    Raises:
        SpecError: If a value is neither, or if there are both.
    """
    times, mistakes = [], []
    first: dict[str, str] = {}  # where the first number and the first date are
    for row, value in enumerate(rows.columns[column]):
        location = f"{rows.location(row)}, {column}"
        try:
            form, time = _time(value) if written is None else ("date", _date(value, written))
        except ValueError:
            text = f"{value!r} is not a date in the format {written!r}."
            if written is None:
                text = (
                    f"{value!r} is neither a finite number nor an ISO date such as 2024-01-31; for "
                    'dates in another form write ByTime(..., format="%d.%m.%Y").'
                )
            mistakes.append(Mistake(location, text))
            continue
        first.setdefault(form, f"{value!r} in {rows.location(row)}")
        times.append(time)
    if not mistakes and len(first) > 1:
        text = f"has both numbers ({first['number']}) and dates ({first['date']}); use one form."
        mistakes.append(Mistake(f"{rows.source}, {column}", text))
    if mistakes:
        raise SpecError("data", few(mistakes, rows.source))
    return np.array(times)


def _time(value: Any) -> tuple[str, float]:
    """Whether a value is a `number` or a `date`, and its time.

    Raises:
        ValueError: If it is neither.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return "date", _timestamp(datetime.fromisoformat(str(value).strip()))
    if not math.isfinite(number):  # NaN is in no order with other times
        raise ValueError(value)
    return "number", number


def _date(value: Any, written: str) -> float:
    """The time of a date in this format.

    Raises:
        ValueError: If it is in another one.
    """
    return _timestamp(datetime.strptime(str(value).strip(), written))


def _timestamp(date: datetime) -> float:
    """Seconds since 1970; a date without an offset is in UTC."""
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _fold_in_range(fields: Mapping[str, Any]) -> list[Mistake]:
    fold, folds = fields.get("fold", 0), fields.get("folds")
    if isinstance(fold, int) and isinstance(folds, int) and fold >= folds >= 3:
        return [Mistake("fold", f"{fold} is not in [0, {folds - 1}].")]
    return []


def _check_classes(folds: int, labels: Sequence[Any]) -> None:
    counts = Counter(map(str, labels))
    rarest = min(counts, key=lambda label: counts[label])
    rare = folds > counts[rarest]
    if rare and len(counts) > MANY_CLASSES and all(map(is_number, counts)):
        text = f"has {len(counts)} different numbers as classes, {counts[rarest]} rows of "
        text += f"{rarest!r}; for numbers write kind='regression', for classes use fewer folds."
        raise SpecError("data", [Mistake("label", text)])
    near = misspelt(rarest, set(counts) - {rarest})
    if near and rare and counts[near] >= folds:
        row = list(map(str, labels)).index(rarest) + 1
        text = f"{rarest!r} in row {row} has {counts[rarest]} of {len(labels)} rows, fewer than "
        text += f"folds. Did you mean {near!r}?"
        raise SpecError("data", [Mistake("label", text)])
    _check_folds(folds, counts[rarest], f"{counts[rarest]} rows labelled {rarest!r}")


def _check_folds(folds: int, available: int, what: str) -> None:
    if folds > available:
        text = f"{folds} is more than the {what}; use fewer folds."
        raise SpecError("data", [Mistake("split.folds", text)])
