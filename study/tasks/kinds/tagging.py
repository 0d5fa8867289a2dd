"""Token classification: one tag per word."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor

from study.tasks.kinds.base import (
    IGNORED,
    Kind,
    Outputs,
    RowMistake,
    Split,
    class_ids,
    flat_columns,
    row_starts,
    text_lengths,
    unquoted,
)
from study.tasks.kinds.classes import entropy
from study.tasks.kinds.encoded import Encoded, Ints

TAG = re.compile(r"O|[BI]-.+")


class Tagging(Kind):
    """A tag per word, such as `B-Gene`; gold is a list of tags per example.

    Only the first token of a word has a label; other tokens of the word, special tokens and padding
    have none. Words that were truncated or have no token are predicted `O`, so that entities lost
    to truncation count as missed.

    Source: Gu et al. 2021, BLURB; scoring depends on the metric.
    """

    name = "tagging"
    auto = "AutoModelForTokenClassification"
    words = True

    @classmethod
    def class_names(cls, values: Iterable[Any]) -> tuple[str, ...]:
        """The tags, `O` first, then sorted."""
        tags = {tag for value in values for tag in _valid_words(value)}
        return ("O", *sorted(tags - {"O"}))

    @classmethod
    def parse_text(cls, value: Any) -> Any:
        """Words; a text is split at whitespace."""
        if not (words := _words(value)):
            raise ValueError(f"{value!r} is not a list of words.")
        return words

    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """Tags, one per word of the row."""
        gold: list[list[str]] = []
        mistakes: list[RowMistake] = []
        for row, value in enumerate(values):
            try:
                gold.append(_words(value))
            except ValueError as error:
                mistakes.append((row, str(error)))
                gold.append([])
        for row, (tags, words) in enumerate(zip(gold, texts, strict=True)):
            if len(tags) != len(words):
                text = f"has {len(tags)} tags for {len(words)} words; each word needs one tag."
                mistakes.append((row, text))
            mistakes += [(row, text) for _, text in class_ids(tags, self.labels)[1]]
            mistakes += [
                (row, f"{tag!r} is not a tag; use O, B-CLASS or I-CLASS, such as B-Gene.")
                for tag in dict.fromkeys(tags)
                if not TAG.fullmatch(tag)
            ]
        return gold, mistakes

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per example."""
        tokens = processor(
            split.text, is_split_into_words=True, truncation=True, max_length=max_length
        )
        columns, pad, starts = flat_columns(tokens, processor)
        known = {tag: number for number, tag in enumerate(self.labels)}
        labels, words = [], []
        for row, tags in enumerate(split.gold):
            ids = np.array([known[tag] for tag in tags])
            owners = [-1 if word is None else word for word in tokens.word_ids(row)]
            first = np.diff([-1, *owners]) != 0
            first &= np.array(owners) >= 0
            labels.append(np.where(first, ids[owners], IGNORED))
            words.append(np.array(owners)[first])
        columns["labels"] = np.concatenate(labels)
        return Encoded(
            split.ids,
            split.gold,
            starts,
            row_starts(map(len, words)),
            columns,
            {**pad, "labels": IGNORED},
            aside={"words": np.concatenate(words)},
        )

    def full_lengths(self, split: Split, processor: Any) -> Ints | None:
        """Tokens of all words."""
        return text_lengths(split, processor, is_split_into_words=True)

    def units(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The logits at the words' first tokens."""
        logits: Tensor = outputs.logits[batch["labels"] != IGNORED]
        return logits

    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """A list of tags per example."""
        tags = np.array(self.labels)[outputs.argmax(axis=1)]
        answers = []
        for row, gold in enumerate(data.gold):
            answer = np.full(len(gold), "O", dtype=tags.dtype)
            inside = slice(data.units[row], data.units[row + 1])
            answer[data.aside["words"][inside]] = tags[inside]
            answers.append(answer.tolist())
        return answers

    def constants(self, data: Encoded) -> list[Any]:
        """Each tag for all words of all examples."""
        return [[[tag] * len(gold) for gold in data.gold] for tag in self.labels]

    def is_constant(self, answers: Any) -> bool:
        """Whether all words of all examples have the same tag."""
        return len({tag for answer in answers for tag in answer}) == 1

    def loss_to_beat(self, data: Encoded) -> float:
        """Entropy of the tags less 0.01, in nats."""
        labels = data.columns["labels"]
        return entropy(labels[labels != IGNORED], len(self.labels)) - 0.01

    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """One row per word that was not truncated: `word` (index) and `logit_<tag>` per tag."""
        owner = np.repeat(np.arange(data.rows), np.diff(data.units))
        words = data.aside["words"]
        logits = {f"logit_{name}": outputs[:, i] for i, name in enumerate(self.labels)}
        return {
            "id": [data.ids[row] for row in owner],
            "word": words,
            "label": [data.gold[row][word] for row, word in zip(owner, words, strict=True)],
            **logits,
        }


def stray_inside(tags: Sequence[str]) -> str | None:
    """The first `I-` tag that continues no entity of its class; None if there is none."""
    for last, tag in zip(["O", *tags], tags, strict=False):
        if tag.startswith("I-") and last[1:] != tag[1:]:
            return tag
    return None


def _words(value: Any) -> list[str]:
    given = unquoted(value)
    if isinstance(given, list) and given and all(isinstance(word, str) for word in given):
        value = given
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is not a list of words or tags.")
    return list(map(str, value))


def _valid_words(value: Any) -> list[str]:
    with suppress(ValueError):  # `gold` reports it, with its row
        return _words(value)
    return []
