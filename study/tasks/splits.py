"""Dividing rows of one's own into train, dev and test: at random, by group, or by time."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.model_selection import KFold as PlainKFold

from study.core.spec import Mistake, Spec, SpecError
from study.tasks.reading import Rows

Parts = dict[str, list[int]]  # row indices of `train`, `dev` and `test`


class Division(Spec):
    """A way of dividing rows."""

    @property
    def columns(self) -> list[str]:
        """Columns it reads besides texts and labels."""
        return []

    @abstractmethod
    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Which rows go where.

        Args:
            rows: All of them.
            labels: Classes to have in equal shares; None for other kinds of task.

        Raises:
            SpecError: If the rows cannot be divided so.
        """


class KFold(Division):
    """Folds drawn at random: one is test, the next one dev, the others train.

    Attributes:
        folds: How many.
        fold: Which of them is test, from 0.
        seed: Draws the folds, the same for every run.

    Source: scikit-learn's StratifiedKFold for classes, KFold for other kinds of task.
    """

    folds: int = Field(ge=3)
    fold: int = Field(default=0, ge=0)
    seed: int = 0

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """The fold is one of the folds."""
        return _fold_in_range(fields)

    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Each class in equal shares, if there are classes."""
        count = len(rows.ids)
        _enough(self.folds, count, f"{count} rows", rows.source)
        classes = [str(label) for label in labels] if labels is not None else [""] * count
        rare = min(set(classes), key=classes.count)
        if classes.count(rare) < self.folds:
            text = f"{self.folds} is more than the {classes.count(rare)} rows labelled {rare!r}."
            raise SpecError("data", [Mistake("split.folds", text)])
        kind = PlainKFold if labels is None else StratifiedKFold
        folds = kind(self.folds, shuffle=True, random_state=self.seed)
        return _parts([test for _, test in folds.split(classes, classes)], self.fold)


class ByGroup(Division):
    """The same with whole groups, such as all rows of a patient or a document.

    Attributes:
        column: Names the group of a row.
        folds: How many.
        fold: Which of them is test, from 0.
        seed: Draws the folds, the same for every run.

    Source: scikit-learn's GroupKFold.
    """

    column: str
    folds: int = Field(ge=3)
    fold: int = Field(default=0, ge=0)
    seed: int = 0

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """The fold is one of the folds."""
        return _fold_in_range(fields)

    @property
    def columns(self) -> list[str]:
        """The group's column."""
        return [self.column]

    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Folds of about equal numbers of groups; no group in two of them."""
        groups = [str(value) for value in rows.columns[self.column]]
        distinct = len(set(groups))
        _enough(self.folds, distinct, f"{distinct} groups in {self.column!r}", rows.source)
        folds = GroupKFold(self.folds, shuffle=True, random_state=self.seed)
        return _parts([test for _, test in folds.split(groups, groups=groups)], self.fold)


class ByTime(Division):
    """The newest rows are test, those before them dev, the oldest train.

    Rows of the same time stay together, in the later part.

    Attributes:
        column: Times: numbers, or dates as ISO 8601 has them.
        dev: Share of the rows for dev.
        test: Share of the rows for test.
    """

    column: str
    dev: float = Field(default=0.15, gt=0.0, lt=1.0)
    test: float = Field(default=0.15, gt=0.0, lt=1.0)

    @property
    def columns(self) -> list[str]:
        """The time's column."""
        return [self.column]

    def divide(self, rows: Rows, labels: Sequence[Any] | None) -> Parts:
        """Cut at two points in time."""
        times = _times(rows, self.column)
        ordered = np.sort(times)
        count = len(ordered)
        test = ordered[count - max(1, round(self.test * count))]
        dev = ordered[max(0, count - max(2, round((self.test + self.dev) * count)))]
        where = np.where(times >= test, 2, np.where(times >= dev, 1, 0))
        parts = {
            name: np.flatnonzero(where == place).tolist()
            for place, name in enumerate(("train", "dev", "test"))
        }
        if empty := [name for name, chosen in parts.items() if not chosen]:
            text = f"leaves no rows for {' and '.join(empty)}; too many share one time."
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


def _times(rows: Rows, column: str) -> Any:
    values = rows.columns[column]
    if all(map(_is_number, values)):
        return np.array([float(value) for value in values])
    times, wrong = [], []
    for row, value in enumerate(values):
        try:
            times.append(datetime.fromisoformat(str(value)).timestamp())
        except ValueError:
            text = f"{value!r} is neither a number nor an ISO date."
            wrong.append(Mistake(f"{rows.where(row)}, {column}", text))
    if wrong:
        raise SpecError("data", wrong[:10])
    return np.array(times)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _fold_in_range(fields: Mapping[str, Any]) -> list[Mistake]:
    fold, folds = fields.get("fold", 0), fields.get("folds")
    if isinstance(fold, int) and isinstance(folds, int) and fold >= folds >= 3:
        return [Mistake("fold", f"{fold} is not in [0, {folds - 1}].")]
    return []


def _enough(folds: int, there: int, what: str, source: str) -> None:
    if folds > there:
        raise SpecError(
            "data", [Mistake("split.folds", f"{folds} is more than the {what} of {source}.")]
        )
