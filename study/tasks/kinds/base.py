"""`Kind`, the base class of all kinds of task, and helpers for encoding."""

import ast
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from study.core.spec import did_you_mean
from study.tasks.kinds.encoded import TARGETS, Encoded, Ints

QUESTION_TOKENS = 64  # longer questions are truncated
IGNORED = -100  # label of a token that has no target, as in transformers
Outputs = npt.NDArray[np.float32]  # (n_units, n_outputs)
RowMistake = tuple[int, str]  # index of a row, and its error message


class Split(NamedTuple):
    """One split, ready to encode.

    Attributes:
        ids: Example ids, unique in the task.
        text: First (or only) input of each example: a text, words, or an image file's bytes.
        text_pair: Second text of each example; None for tasks with a single text.
        gold: Gold answers, one per example; their type depends on the kind.
    """

    ids: list[str]
    text: list[Any]
    text_pair: list[str] | None
    gold: Any


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of task.

    Attributes:
        labels: Class names in the order of their ids; empty for regression and spans.
        name: As in `Task.kind`.
        auto: The transformers class with the head.
        problem: Name of the loss in transformers (`problem_type`); None where the class has only
            one loss.
        words: Whether a row's text is a list of words.
        pretrained_head: Whether the head is that of pretraining, which only decoders have.
    """

    labels: tuple[str, ...]
    name: ClassVar[str]
    auto: ClassVar[str] = "AutoModelForSequenceClassification"
    problem: ClassVar[str | None] = None
    words: ClassVar[bool] = False
    pretrained_head: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """Number of values that `stored` has per unit; of a new head the size of its output."""
        return len(self.labels) or 1

    # --- rows ---

    @classmethod
    def class_names(cls, values: Iterable[Any]) -> tuple[str, ...]:
        """The class names among these label values, in the order of their ids."""
        return ()

    @classmethod
    def parse_text(cls, value: Any) -> Any:
        """A row's first text in the form that `encode` takes.

        Raises:
            ValueError: If the value has the wrong type.
        """
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text.")
        return value

    @abstractmethod
    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """The gold answers, from the label column.

        Args:
            values: As read, one per example.
            texts: The first texts.
            pairs: The second texts; None for tasks with a single text.

        Returns:
            The gold answers, and a mistake for every invalid label.
        """

    @abstractmethod
    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """The rows as model inputs.

        Args:
            split: The rows.
            processor: The checkpoint's fast tokenizer, or its image processor.
            max_length: Maximum tokens per row.
            truncate: The tokenizer's truncation strategy: `longest_first` or `only_second`.
        """

    def full_lengths(self, split: Split, processor: Any) -> Ints | None:
        """Tokens per row without truncation, special tokens included, shape (n_rows,).

        Returns:
            None where no text is cut: of images, and of contexts that are read in windows.
        """
        return text_lengths(split, processor)

    def trained_on(self, split: Split) -> Split:
        """What is encoded of the training rows."""
        return split

    def references(self, split: Split) -> Any:
        """The gold answers in the form that metrics compare with `answers`."""
        return split.gold

    def contexts(self, split: Split) -> list[str]:
        """The text that each example's answer is extracted from; empty for non-extractive kinds."""
        return []

    # --- passes ---

    def inputs(self, batch: Mapping[str, Tensor], *, targets: bool) -> dict[str, Any]:
        """What the model is called with for a batch; without targets it computes no loss."""
        return {name: tensor for name, tensor in batch.items() if targets or name not in TARGETS}

    def units(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The logits that are scored, row by row, first axis the units of the batch."""
        logits: Tensor = outputs.logits
        return logits

    def stored(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """What a run keeps of each unit, row by row, shape (n_units of the batch, outputs)."""
        return self.units(outputs, batch)

    def loss(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The task's loss where it is not the one that the model computes; None where it is."""
        return None

    def targets(self, batch: Mapping[str, Tensor]) -> int:
        """Number of what the loss is a mean over: labelled tokens, or rows."""
        named = batch.get("labels", next(iter(batch.values())))
        if named.ndim > 1 and not named.is_floating_point() and not named.is_meta:
            return int((named != IGNORED).sum())
        return len(named)

    def divergence(self, p: Any, q: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """KL(p || q) of the predicted distributions, mean over units.

        Args:
            p: A model's outputs for the batch; gradients flow into both.
            q: Other outputs for the same batch.
            batch: Determines which outputs are scored.

        Returns:
            A scalar in nats; 0 for equal outputs.
        """
        return kl(self.units(p, batch), self.units(q, batch))

    @abstractmethod
    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """Predictions from the outputs, one per example, comparable to `data.gold`."""

    def generated(self, answers: Any, texts: Sequence[str]) -> Any:
        """The answers with the texts that were generated; of generation alone."""
        return answers

    def perfect(self, references: Any) -> Any:
        """The right answers in the form of `answers`, from `references` of a split."""
        return references

    # --- constant predictors ---

    @abstractmethod
    def constants(self, data: Encoded) -> list[Any]:
        """Constant predictions, each in the form of `answers`."""

    def is_constant(self, answers: Any) -> bool:
        """Whether all examples have the same prediction."""
        return all(answer == answers[0] for answer in answers)

    @abstractmethod
    def loss_to_beat(self, data: Encoded) -> float:
        """The training loss of the best constant prediction less a margin, in the loss's unit."""

    # --- predictions file ---

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
    """Tokenise texts or pairs, with segment ids where the tokenizer has them.

    Returns:
        Flat columns, their padding values, and the row starts, shape (n_rows + 1,).
    """
    text = split.text
    if truncate == "only_second":
        text = truncate_questions(text, tokenizer, min(QUESTION_TOKENS, max_length // 2))
    tokens = tokenizer(text, split.text_pair, truncation=truncate, max_length=max_length)
    return flat_columns(tokens, tokenizer)


def text_lengths(split: Split, tokenizer: Any, **options: Any) -> Ints:
    """Tokens per row of untruncated texts or pairs, special tokens included, shape (n_rows,)."""
    tokens = tokenizer(split.text, split.text_pair, verbose=False, **options)  # no length warning
    return np.array([len(ids) for ids in tokens["input_ids"]], np.int64)


def truncate_questions(questions: list[str], tokenizer: Any, limit: int) -> list[str]:
    """Truncate questions to a number of tokens, so that there is room for the context.

    Source: Devlin et al. 2019, whose limit is 64.
    """
    tokens = tokenizer(
        questions,
        add_special_tokens=False,
        truncation=True,
        max_length=limit,
        return_offsets_mapping=True,
    )
    ends = [offsets[-1][1] if offsets else 0 for offsets in tokens["offset_mapping"]]
    return [question[:end] for question, end in zip(questions, ends, strict=True)]


def flat_columns(tokens: Any, tokenizer: Any) -> tuple[dict[str, Ints], dict[str, int], Ints]:
    """A tokenizer's ragged rows, concatenated; returns as `encode_texts`."""
    pads = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    names = [name for name in ("input_ids", "token_type_ids") if name in tokens]
    columns = {n: np.concatenate([np.asarray(row, np.int64) for row in tokens[n]]) for n in names}
    return columns, {n: pads[n] for n in names}, row_starts(map(len, tokens["input_ids"]))


def row_starts(lengths: Iterable[int]) -> Ints:
    """Start of each row among concatenated rows of these lengths, and the end, shape (n + 1,)."""
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


def class_ids(values: Sequence[Any], labels: tuple[str, ...]) -> tuple[Ints, list[RowMistake]]:
    """Class ids of label values, and the mistakes; unknown labels get id -1."""
    known = {label: number for number, label in enumerate(labels)}
    ids = np.array([known.get(str(value), -1) for value in values], np.int64)
    spellings = {plain_label(label): label for label in labels}
    mistakes = []
    for row in np.flatnonzero(ids < 0).tolist():
        name = str(values[row])
        meant = spellings.get(plain_label(name))
        hint = f"Did you mean {meant!r}?" if meant else did_you_mean(name, labels)
        mistakes.append((row, f"{values[row]!r} is not a label. {hint}"))
    return ids, mistakes


def plain_label(label: str) -> str:
    """A label without what people do not see: equal for `1` and `1.0`, `pos` and ` Pos`."""
    visible = "".join(sign for sign in label if unicodedata.category(sign) != "Cf")
    plain = " ".join(unicodedata.normalize("NFC", visible).split()).casefold()
    try:
        return str(float(plain))
    except ValueError:
        return plain


def unquoted(value: Any) -> Any:
    """A list or dictionary that was written as text; all other values unchanged.

    Only the very text that Python or JSON would write is read, so that a text which happens to
    begin with a bracket stays a text.
    """
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "(", "{"):
        return value
    text = value.strip()
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            parsed = parse(text)
            if isinstance(parsed, list | tuple | dict) and text in _written(parsed):
                return parsed
    return value


def _written(value: Any) -> list[str]:
    """How Python and JSON write a value."""
    forms = [repr(value)]
    with suppress(TypeError, ValueError):  # not a value of JSON
        for ascii, separators in product((True, False), (None, (",", ":"))):
            forms.append(json.dumps(value, ensure_ascii=ascii, separators=separators))
    return forms
