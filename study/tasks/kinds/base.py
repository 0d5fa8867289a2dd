"""What a kind of task says: its head, how its rows are encoded, and what outputs mean."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from study.core.spec import did_you_mean
from study.tasks.kinds.encoded import Encoded, Ints

QUESTION_TOKENS = 64  # longer questions lose their end
Outputs = npt.NDArray[np.float32]  # (n_units, n_outputs)
Wrong = tuple[int, str]  # index of a row, and what is wrong with it


class Split(NamedTuple):
    """One split, ready to encode.

    Attributes:
        ids: Example ids, unique in the task.
        text: First (or only) input of each example: a text, words, or an image file's bytes.
        text_pair: Second text of each example; None for tasks with one.
        gold: What is right, one entry per example; its type is the kind's.
    """

    ids: list[str]
    text: list[Any]
    text_pair: list[str] | None
    gold: Any


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of task.

    Attributes:
        labels: Class names in the order of their ids; empty for values and spans.
        name: As in `Task.kind`.
        auto: The class of transformers that has the head.
        problem: What transformers calls the loss; None where the class has one loss only.
        words: Whether a row's text is a list of words.
    """

    labels: tuple[str, ...]
    name: ClassVar[str]
    auto: ClassVar[str] = "AutoModelForSequenceClassification"
    problem: ClassVar[str | None] = None
    words: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """Size of the head's output."""
        return len(self.labels) or 1

    # --- rows ---

    @classmethod
    def found(cls, values: Iterable[Any]) -> tuple[str, ...]:
        """The class names among these label values, in the order of their ids."""
        return ()

    @classmethod
    def text(cls, value: Any) -> Any:
        """A row's first text as `encode` takes it.

        Raises:
            ValueError: If it is something else, saying what.
        """
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text.")
        return value

    @abstractmethod
    def gold(self, values: Sequence[Any], texts: Sequence[Any]) -> tuple[Any, list[Wrong]]:
        """What is right, from the label column.

        Args:
            values: As read, one per example.
            texts: The first texts.

        Returns:
            The gold answers, and every label that is wrong.
        """

    @abstractmethod
    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """The rows as a model takes them.

        Args:
            split: The rows.
            processor: The checkpoint's fast tokenizer, or its image processor.
            max_length: Tokens per row at most.
            truncate: As tokenizers have it: `longest_first`, `only_second`.
        """

    def right(self, split: Split) -> Any:
        """What is right, as metrics compare it with `answers`."""
        return split.gold

    def texts(self, split: Split) -> list[str]:
        """Per example the text that answers are cut from; empty where they are not."""
        return []

    # --- outputs ---

    def units(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The outputs that count, shape (n_units of the batch, n_outputs), row by row."""
        logits: Tensor = outputs.logits
        return logits

    def divergence(self, p: Any, q: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """How far q's answers are from p's, a scalar: the mean over units of KL(p || q).

        Args:
            p: A model's outputs for the batch; gradients flow into both.
            q: Other outputs for it.
            batch: Says which outputs count.

        Returns:
            In nats; 0 for equal outputs.
        """
        return kl(self.units(p, batch), self.units(q, batch))

    @abstractmethod
    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """What the outputs say, one entry per example, comparable to `data.gold`."""

    # --- constant answers ---

    @abstractmethod
    def constants(self, data: Encoded) -> list[Any]:
        """Answers that do not look at the input, each shaped as `answers`."""

    def is_constant(self, answers: Any) -> bool:
        """Whether every example has the same answer."""
        return all(answer == answers[0] for answer in answers)

    @abstractmethod
    def loss_to_beat(self, data: Encoded) -> float:
        """The training loss of the best constant answer, less a margin, in the loss's unit."""

    # --- what is kept ---

    @abstractmethod
    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """Columns for the predictions file: `id`, `label`, and the outputs."""


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of logits of shape (n, classes), mean over n."""
    log_p, log_q = (functional.log_softmax(x.float(), dim=-1) for x in (p, q))
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def encode_texts(
    split: Split, tokenizer: Any, *, max_length: int, truncate: str | bool
) -> tuple[dict[str, Ints], dict[str, int], Ints]:
    """Tokenise texts or pairs; segment ids stay with their pair.

    Returns:
        Flat columns, their padding values, and where rows start, shape (n_rows + 1,).
    """
    text = split.text
    if truncate == "only_second":
        text = cut(text, tokenizer, min(QUESTION_TOKENS, max_length // 2))
    tokens = tokenizer(text, split.text_pair, truncation=truncate, max_length=max_length)
    return flat_columns(tokens, tokenizer)


def cut(questions: list[str], tokenizer: Any, limit: int) -> list[str]:
    """Questions without what lies beyond a number of tokens, so that a text beside them has room.

    Source: Devlin et al. 2019, whose limit is 64.
    """
    found = tokenizer(
        questions,
        add_special_tokens=False,
        truncation=True,
        max_length=limit,
        return_offsets_mapping=True,
    )
    ends = [offsets[-1][1] if offsets else 0 for offsets in found["offset_mapping"]]
    return [question[:end] for question, end in zip(questions, ends, strict=True)]


def flat_columns(tokens: Any, tokenizer: Any) -> tuple[dict[str, Ints], dict[str, int], Ints]:
    """A tokenizer's ragged rows, end to end; see `encode_texts`."""
    pads = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    names = [name for name in ("input_ids", "token_type_ids") if name in tokens]
    columns = {n: np.concatenate([np.asarray(row, np.int64) for row in tokens[n]]) for n in names}
    return columns, {n: pads[n] for n in names}, starts_of(map(len, tokens["input_ids"]))


def starts_of(lengths: Iterable[int]) -> Ints:
    """Where rows of these lengths start when laid end to end, and the end, shape (n + 1,)."""
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


def ids_of(values: Sequence[Any], labels: tuple[str, ...]) -> tuple[Ints, list[Wrong]]:
    """Class ids of label values, -1 and a complaint for those that are none."""
    known = {label: number for number, label in enumerate(labels)}
    ids = np.array([known.get(str(value), -1) for value in values], np.int64)
    wrong = [
        (row, f"{value!r} is not a label. {did_you_mean(str(value), labels)}")
        for row, value in enumerate(values)
        if ids[row] < 0
    ]
    return ids, wrong
