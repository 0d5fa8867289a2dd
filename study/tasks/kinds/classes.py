"""Classification, regression and multilabel classification of texts and text pairs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from torch import Tensor
from torch.nn import functional

from study.tasks.kinds.base import (
    Kind,
    Outputs,
    RowMistake,
    Split,
    class_ids,
    encode_texts,
    unquoted,
)
from study.tasks.kinds.encoded import Encoded

ZERO_OR_ONE = {"0", "1", "0.0", "1.0", "False", "True"}
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
# A list as numpy prints it, a list of bare words, or an array's `repr`.
LIST_LIKE = re.compile(r"\[[^|]*[\s,'\"][^|]*\]|[({][^|]*['\"][^|]*[)}]|array\(.*\)", re.DOTALL)


class Classification(Kind):
    """One of several classes: softmax and cross-entropy; gold is class ids, shape (n,)."""

    name = "classification"
    problem = "single_label_classification"

    @classmethod
    def class_names(cls, values: Iterable[Any]) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(set(map(str, values))))

    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """Class ids."""
        lists = [
            (row, f"{value!r} is not one label; for several labels per row use kind='multilabel'.")
            for row, value in enumerate(values)
            if isinstance(value, list | tuple | dict)
        ]
        ids, unknown = class_ids(values, self.labels)
        return ids, lists + unknown

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per example."""
        return _encode(split, processor, split.gold, max_length=max_length, truncate=truncate)

    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """Class ids."""
        return np.asarray(outputs.argmax(axis=1), np.int64)

    def constants(self, data: Encoded) -> list[Any]:
        """Each class for all examples."""
        return [np.full(len(data.ids), number) for number in range(len(self.labels))]

    def loss_to_beat(self, data: Encoded) -> float:
        """Label entropy less 0.01, in nats."""
        return entropy(data.gold, len(self.labels)) - 0.01

    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """`logit_<class>` per class."""
        logits = {f"logit_{name}": outputs[:, i] for i, name in enumerate(self.labels)}
        return {"id": data.ids, "label": [self.labels[label] for label in data.gold], **logits}


@dataclass(frozen=True)
class Regression(Kind):
    """One value: squared error; gold is values, shape (n,).

    The model is trained on (label - mean) / sd. Gold, answers and everything that is scored or
    stored are in the label's own unit.

    Attributes:
        mean: Of the training labels if the task standardises them, else 0.
        sd: Likewise, else 1.
    """

    mean: float = 0.0
    sd: float = 1.0
    name = "regression"
    problem = "regression"

    @property
    def standardised(self) -> bool:
        """Whether the model's output is in another unit than the labels."""
        return (self.mean, self.sd) != (0.0, 1.0)

    def standardise(self, gold: Any) -> Self:
        """The same kind with the mean and the population sd of these labels, shape (n,)."""
        return replace(self, mean=float(np.mean(gold)), sd=float(np.std(gold)))

    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """Finite numbers."""
        numbers = np.full(len(values), np.nan)
        mistakes: list[RowMistake] = []
        for row, value in enumerate(values):
            try:
                numbers[row] = float(value)
            except (TypeError, ValueError):
                cure = " Write a decimal point." if DECIMAL_COMMA.fullmatch(str(value)) else ""
                mistakes.append((row, f"{value!r} is not a number.{cure}"))
            else:
                if not np.isfinite(numbers[row]):
                    mistakes.append((row, f"{value!r} is not finite."))
        return numbers, mistakes

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per example."""
        targets = ((split.gold - self.mean) / self.sd).astype(np.float32)
        return _encode(split, processor, targets, max_length=max_length, truncate=truncate)

    def divergence(self, p: Any, q: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean squared difference of the values.

        Source: none of the papers that add a divergence to the loss defines it for regression. The
            squared difference is the KL divergence of normal distributions with unit variance, up
            to a factor of 2.
        """
        return functional.mse_loss(q.logits.float(), p.logits.float())

    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """Values, in the label's unit."""
        return outputs[:, 0].astype(np.float64) * self.sd + self.mean

    def constants(self, data: Encoded) -> list[Any]:
        """The mean for all examples."""
        return [np.full(len(data.ids), np.mean(data.gold))]

    def loss_to_beat(self, data: Encoded) -> float:
        """99% of the variance of the targets: a relative margin, since the unit is arbitrary."""
        return 0.99 * float(np.var(data.gold)) / self.sd**2

    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """`value`, in the label's unit."""
        return {"id": data.ids, "label": data.gold, "value": self.answers(outputs, data)}


class Multilabel(Kind):
    """Any number of classes: sigmoids and binary cross-entropy; gold is 0 or 1, shape (n, L).

    Source: Gu et al. 2021, HoC in BLURB. A class is predicted where its logit is above 0.
    """

    name = "multilabel"
    problem = "multi_label_classification"

    @classmethod
    def class_names(cls, values: Iterable[Any]) -> tuple[str, ...]:
        """The names, sorted.

        Where no text has a `|`, a text with a comma is no name: it may be several.
        """
        values = list(values)
        separated = any("|" in value for value in values if isinstance(value, str))
        read = [v for v in values if separated or not (isinstance(v, str) and _has_comma(v))]
        return tuple(sorted({name for value in read for name in _valid_names(value)}))

    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """Class indicators; a value is a list, or one text with `|` between names."""
        gold = np.zeros((len(values), len(self.labels)), np.int64)
        mistakes: list[RowMistake] = []
        for row, value in enumerate(values):
            try:
                names = self._named(_names(value))
            except ValueError as error:
                mistakes.append((row, str(error)))
                continue
            ids, unknown = class_ids(names, self.labels)
            if unknown and isinstance(value, str) and _has_comma(value):
                text = (
                    f"{value!r} is not a label; write | between labels. If the comma is part of a "
                    "label, name all labels of the task in `labels`."
                )
                unknown = [(row, text)]
            mistakes += [(row, text) for _, text in unknown]
            gold[row, ids[ids >= 0]] = 1
        return gold, mistakes

    def _named(self, items: list[Any]) -> list[str]:
        """The class names in a list of names, or in a list with a 0 or 1 per class.

        Raises:
            ValueError: If it has a 0 or 1 per class, and the classes have no names.
        """
        names = list(map(str, items))
        if len(items) < 2 or not all(not isinstance(x, str) and x in (0, 1) for x in items):
            return names
        if set(self.labels) <= ZERO_OR_ONE:
            raise ValueError(
                f"{items} has a 0 or 1 per class; name the classes in `labels`, in the order of "
                f"the list. For classes called 0 and 1 write text, such as {names}."
            )
        if not ZERO_OR_ONE.isdisjoint(self.labels):  # numbers are the names of classes
            return names
        if len(items) != len(self.labels):
            count = len(self.labels)
            raise ValueError(f"{items} has {len(items)} entries of 0 or 1 for {count} labels.")
        return [label for label, item in zip(self.labels, items, strict=True) if item]

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per example."""
        targets = split.gold.astype(np.float32)
        return _encode(split, processor, targets, max_length=max_length, truncate=truncate)

    def divergence(self, p: Any, q: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The KL divergence of Bernoulli distributions, mean over classes and examples."""
        a, b = p.logits.float(), q.logits.float()
        yes = a.sigmoid() * (functional.logsigmoid(a) - functional.logsigmoid(b))
        no = (-a).sigmoid() * (functional.logsigmoid(-a) - functional.logsigmoid(-b))
        mean: Tensor = (yes + no).mean()
        return mean

    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """0 or 1 per class."""
        return np.asarray(outputs > 0, np.int64)

    def constants(self, data: Encoded) -> list[Any]:
        """No class, the most frequent class, the two most frequent, and so on up to all."""
        order = np.argsort(-data.gold.sum(axis=0), kind="stable")
        chosen = np.tril(np.ones((len(order) + 1, len(order)), np.int64), -1)
        rows = np.zeros_like(chosen)
        rows[:, order] = chosen
        return [np.tile(row, (len(data.ids), 1)) for row in rows]

    def is_constant(self, answers: Any) -> bool:
        """Whether all examples have the same set of classes."""
        return bool((answers == answers[0]).all())

    def loss_to_beat(self, data: Encoded) -> float:
        """Mean entropy of the classes less 0.01, in nats."""
        from scipy import stats  # slow to import

        shares = data.gold.mean(axis=0)
        return float(np.mean(stats.entropy(np.stack([shares, 1 - shares]), axis=0))) - 0.01

    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """`logit_<class>` per class; the label is the names with `|` between them."""
        logits = {f"logit_{name}": outputs[:, i] for i, name in enumerate(self.labels)}
        named = np.array(self.labels)
        return {
            "id": data.ids,
            "label": ["|".join(named[row == 1]) for row in data.gold],
            **logits,
        }


def entropy(ids: Any, classes: int) -> float:
    """Entropy of the class frequencies, in nats."""
    from scipy import stats  # slow to import

    shares = np.bincount(np.asarray(ids, np.int64), minlength=classes) / len(ids)
    return float(stats.entropy(shares))


def _encode(
    split: Split, tokenizer: Any, targets: Any, *, max_length: int, truncate: str | bool
) -> Encoded:
    columns, pad, starts = encode_texts(split, tokenizer, max_length=max_length, truncate=truncate)
    units = np.arange(len(split.ids) + 1)
    return Encoded(split.ids, split.gold, starts, units, columns, pad, {"labels": targets})


def _names(value: Any) -> list[Any]:
    value = unquoted(value)
    if isinstance(value, str):
        if LIST_LIKE.fullmatch(value.strip()):
            raise ValueError(
                f"{value!r} is a list in a form that cannot be read; write it as JSON, or as one "
                "text with | between labels."
            )
        return [name.strip() for name in value.split("|") if name.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is not a list of labels, nor one text with | between them.")
    for item in value:
        if not isinstance(item, str | int) and not (isinstance(item, float) and item.is_integer()):
            raise ValueError(f"{value!r} has {item!r}, which is not a label.")
    return list(value)


def _valid_names(value: Any) -> list[str]:
    with suppress(ValueError):  # `gold` reports it, with its row
        return list(map(str, _names(value)))
    return []


def _has_comma(text: str) -> bool:
    """Whether a text has commas or semicolons and no `|`, and is no list."""
    return "|" not in text and bool({",", ";"} & set(text)) and unquoted(text) is text
