"""Extractive question answering: a span of the context, or no answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.tasks.kinds.base import (
    QUESTION_TOKENS,
    Kind,
    Outputs,
    RowMistake,
    Split,
    flat_columns,
    kl,
    row_starts,
    truncate_questions,
    unquoted,
)
from study.tasks.kinds.encoded import Encoded, Ints

ANSWER_TOKENS = 30
CANDIDATES = 20  # number of best starts, and of best ends, that are combined


class Span(Kind):
    """The start and end of an answer in a context; gold is a tuple of answers per example.

    An empty tuple means that the context has no answer; its target is the first token. A context
    that is too long is split into windows that overlap by a third of `max_length`, and the best
    span of all windows is the candidate. The prediction is "no answer" unless the candidate scores
    higher than the lowest no-answer score of any window.

    Source: Devlin et al. 2019, SQuAD 1.1 and 2.0, with their limits of 64 question tokens and 30
        answer tokens, and the threshold for no answer left at 0.
    """

    name = "span"
    auto = "AutoModelForQuestionAnswering"

    @property
    def outputs(self) -> int:
        """Two: start and end logits."""
        return 2

    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """Answers as (text, start), each where it stands in its context.

        A value is a list of objects with `text` and `start` or `answer_start`, or the object of two
        lists that the hub has for SQuAD. An answer without text is no answer. A start that is not
        the answer's, such as -1 or one in UTF-16 units, is corrected where only one place can be
        meant.
        """
        gold: list[tuple[tuple[str, int], ...]] = []
        mistakes: list[RowMistake] = []
        for row, (value, context) in enumerate(
            zip(values, pairs or [""] * len(values), strict=True)
        ):
            gold.append(())
            try:
                answers = _answers(value)
                if isinstance(context, str):  # else it is a mistake of its own
                    answers = [(text, _place(text, start, context)) for text, start in answers]
                gold[row] = tuple(answers)
            except ValueError as error:
                mistakes.append((row, str(error)))
        return gold, mistakes

    def full_lengths(self, split: Split, processor: Any) -> Ints | None:
        """None: contexts are read in windows."""
        return None

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per window; the target is the first gold answer, if the window contains it."""
        tokens = processor(
            truncate_questions(split.text, processor, min(QUESTION_TOKENS, max_length // 3)),
            self.contexts(split),
            truncation="only_second",
            max_length=max_length,
            stride=max_length // 3,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        columns, pad, starts = flat_columns(tokens, processor)
        owners = np.asarray(tokens["overflow_to_sample_mapping"], np.int64)
        windows = [_offsets(tokens, row) for row in range(len(owners))]
        targets = np.array(
            [_target(window, split.gold[o]) for window, o in zip(windows, owners, strict=True)]
        )
        return Encoded(
            split.ids,
            self.references(split),
            starts,
            row_starts(map(len, windows)),
            columns,
            pad,
            {"start_positions": targets[:, 0], "end_positions": targets[:, 1]},
            {"owners": owners, "offsets": np.concatenate(windows)},
            self.contexts(split),
        )

    def references(self, split: Split) -> Any:
        """The texts of the answers."""
        return [tuple(text for text, _ in answers) for answers in split.gold]

    def contexts(self, split: Split) -> list[str]:
        """The contexts."""
        return split.text_pair or []

    def units(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Start and end logits of every token."""
        both = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)
        return both[batch["attention_mask"].bool()]

    def divergence(self, p: Any, q: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean of the divergences of starts and of ends, each over the tokens of a row."""
        outside = batch["attention_mask"] == 0
        parts = [
            kl(*(getattr(side, name).masked_fill(outside, -1e4) for side in (p, q)))
            for name in ("start_logits", "end_logits")
        ]
        return torch.stack(parts).mean()

    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """A text per example, empty for no answer."""
        best = [(-np.inf, "")] * len(data.ids)
        no_answer = np.full(len(data.ids), np.inf)  # lowest score over the windows
        for row, owner in enumerate(data.aside["owners"]):
            inside = slice(data.units[row], data.units[row + 1])
            window, offsets = outputs[inside], data.aside["offsets"][inside]
            no_answer[owner] = min(no_answer[owner], window[0].sum())
            score, start, end = _best(window, offsets)
            if score > best[owner][0]:
                best[owner] = (score, data.texts[owner][start:end])
        return [text if score > no_answer[i] else "" for i, (score, text) in enumerate(best)]

    def perfect(self, references: Any) -> Any:
        """The first accepted answer of each example, empty for no answer."""
        return [next(iter(texts), "") for texts in references]

    def constants(self, data: Encoded) -> list[Any]:
        """No answer for all examples."""
        return [[""] * len(data.ids)]

    def loss_to_beat(self, data: Encoded) -> float:
        """Infinite: a constant prediction has no meaningful loss here, so the rule never fires."""
        return float("inf")

    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """`answer`; the label is the gold answers with ` | ` between them."""
        gold = [" | ".join(dict.fromkeys(answers)) for answers in data.gold]
        return {"id": data.ids, "label": gold, "answer": self.answers(outputs, data)}


def _answers(value: Any) -> list[tuple[str, int]]:
    """The answers with text in a value of the label column, each with its start as given.

    Raises:
        ValueError: If the value is no list of answers.
    """
    given = unquoted(value)
    if isinstance(given, str) and not given.strip():
        raise ValueError("is empty; write [] for a question without an answer.")
    try:
        if isinstance(given, dict):
            both = list(zip(given["text"], given["answer_start"], strict=True))
        else:
            both = [(one["text"], one.get("start", one.get("answer_start"))) for one in given]
        return [(str(text), int(start)) for text, start in both if text]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"{value!r} is not a list of answers, each with `text` and `start`."
        raise ValueError(text) from error


def _place(text: str, start: int, context: str) -> int:
    """Where an answer stands in its context.

    Raises:
        ValueError: If it is not there, or if several places can be meant.
    """
    if start >= 0 and context.startswith(text, start):
        return start
    found = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    # JavaScript counts UTF-16 units: two for an emoji.
    meant = [
        at for at in found if len(context[:at].encode("utf-16-le", "surrogatepass")) == 2 * start
    ]
    if len(meant or found) == 1:
        return (meant or found)[0]
    if not found:
        raise ValueError(f"the answer {text!r} is not in the context.")
    places = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    raise ValueError(
        f"the answer {text!r} does not stand at {start} but at {places}; give its start in "
        "characters, counted from 0."
    )


def _utf16(text: str) -> int:
    """Length of a text as JavaScript counts it: an emoji has two units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _offsets(tokens: Any, row: int) -> Ints:
    """Character offsets of each token in the context, shape (n_tokens, 2); -1 outside of it."""
    inside = np.array([part == 1 for part in tokens.sequence_ids(row)])
    return np.where(inside[:, None], np.asarray(tokens["offset_mapping"][row], np.int64), -1)


def _target(window: Ints, answers: tuple[tuple[str, int], ...]) -> tuple[int, int]:
    """Start and end token of the first answer; 0 and 0 if the window does not contain it."""
    if not answers:
        return 0, 0
    text, begin = answers[0]
    context = np.flatnonzero(window[:, 0] >= 0)
    if not len(context):
        return 0, 0
    covers = (window[context, 0] < begin + len(text)) & (window[context, 1] > begin)
    whole = window[context[0], 0] <= begin and window[context[-1], 1] >= begin + len(text)
    if not whole or not covers.any():
        return 0, 0
    chosen = context[covers]
    return int(chosen[0]), int(chosen[-1])


def _best(window: Outputs, offsets: Ints) -> tuple[float, int, int]:
    """The best span of a window: its score, and its start and end character in the context."""
    context = np.flatnonzero(offsets[:, 0] >= 0)
    starts, ends = (
        context[np.argsort(-window[context, side], kind="stable")[:CANDIDATES]] for side in (0, 1)
    )
    scores = window[starts, 0][:, None] + window[ends, 1]
    length = ends - starts[:, None] + 1
    scores = np.where((length >= 1) & (length <= ANSWER_TOKENS), scores, -np.inf)
    if not scores.size or not np.isfinite(scores).any():
        return -np.inf, 0, 0
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[i, j]), int(offsets[starts[i], 0]), int(offsets[ends[j], 1])
