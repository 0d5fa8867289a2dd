"""Generation: a text that answers a prompt, by a decoder with its pretrained head."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from study.tasks.kinds.base import IGNORED, Kind, Outputs, RowMistake, Split, row_starts, unquoted
from study.tasks.kinds.conversations import check_roles, turns
from study.tasks.kinds.encoded import Encoded, Ints


class Answer(NamedTuple):
    """What a model makes of the right answer to a prompt.

    Attributes:
        text: The text that was generated, or the most likely of several choices. Otherwise a right
            answer of which each token is the most likely one, so that greedy generation gives it;
            None if there is none.
        log_likelihood: Of the first right answer and the end after it, in nats; NaN where unknown.
        tokens: Their number.
    """

    text: str | None
    log_likelihood: float
    tokens: int


class Choices(NamedTuple):
    """The gold answer of an example with choices.

    Attributes:
        texts: What can be chosen.
        right: Index of the right one.
    """

    texts: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class Generation(Kind):
    """An answer to a prompt; gold is a tuple of right answers per example, or `Choices`.

    A row is the prompt, an answer and the end-of-text token, and the loss is the mean over the
    tokens of the answers in a batch, the end included (see `end`). An example with several right
    answers is trained on the first of them, and has a row for each where it is evaluated: any may
    be given, and likelihoods are those of the first. An example with choices has a row for each of
    these; the one with the highest likelihood, summed over its tokens, is chosen. Prompt and answer
    are tokenised apart, so that the model sees the same tokens when it generates; a space is put
    between them unless the prompt ends with a line break. A prompt that is too long loses its
    beginning, the answer nothing. The head is that of pretraining and no new one.

    Attributes:
        chat: Whether prompts and answers are turns of a conversation, written by the checkpoint's
            chat template. A prompt may then be a conversation, a tuple of messages.
        end: Whether the end after an answer is learnt and scored. Without it an answer is right if
            generation begins with it, as for words that complete a sentence.
        choices: Whether the label is one of several choices.
        loss_per: The loss is a mean over the answers' tokens, or over rows of their tokens' means,
            so that a long answer counts no more than a short one.

    Source: Touvron et al. 2023 (Llama 2), section 3.1, the loss on answers alone; Gao et al. 2021
        (language model evaluation harness), exact match by the most likely token of each place,
        and the space.
    """

    chat: bool = False
    end: bool = True
    choices: bool = False
    loss_per: Literal["token", "row"] = "token"
    name = "generation"
    auto = "AutoModelForCausalLM"
    pretrained_head = True

    @property
    def outputs(self) -> int:
        """Two: of each token of an answer its log-likelihood, and the most likely token's id."""
        return 2

    @classmethod
    def parse_text(cls, value: Any) -> Any:
        """A text, or a tuple of messages of a list of objects with `role` and `content`."""
        given = unquoted(value)
        if isinstance(given, list) and given and all(isinstance(turn, dict) for turn in given):
            try:
                messages = tuple((str(turn["role"]), turn["content"]) for turn in given)
            except KeyError as error:
                raise ValueError(f"has a message without {error}.") from error
            if other := [content for _, content in messages if not isinstance(content, str)]:
                raise ValueError(f"has a message whose content is {other[0]!r}, not text.")
            check_roles(messages)
            return messages
        return super().parse_text(value)

    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """A tuple of texts per example; numbers as they are written.

        A label may be a list of them, which no text is read as: it may be an answer in JSON.
        `pairs` are the choices, lists of texts.
        """
        if self.choices:
            return _chosen(values, pairs or [])
        gold: list[tuple[str, ...]] = []
        mistakes: list[RowMistake] = []
        for row, (value, prompt) in enumerate(zip(values, texts, strict=True)):
            wordings = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
            gold.append(tuple(dict.fromkeys(map(str, wordings))))
            if not all(isinstance(each, str | int | float) for each in wordings):
                mistakes.append((row, f"{value!r} is not a text, nor a list of texts."))
            elif not wordings or not all(each.strip() for each in gold[row]):
                mistakes.append((row, "is empty; give the answer that is to be generated."))
            if isinstance(prompt, str) and not prompt.strip():
                mistakes.append((row, "has an empty prompt, from which nothing follows."))
            if prompt and not isinstance(prompt, str) and not self.chat:
                mistakes.append((row, "has a list of messages as prompt; set chat=True."))
        return gold, mistakes

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per right answer, or per choice."""
        owners = np.repeat(np.arange(len(split.ids)), [len(_texts(gold)) for gold in split.gold])
        start, prompts, answers = self.tokens(split, processor)
        longest = np.zeros(len(split.ids), np.int64)  # so that all rows of an example are cut alike
        np.maximum.at(longest, owners, list(map(len, answers)))
        inputs, labels = [], []
        for prompt, answer, most in zip(prompts, answers, longest[owners].tolist(), strict=True):
            room = max(0, max_length - len(start) - most)
            given = [*start, *prompt[max(0, len(prompt) - room) :]]
            inputs.append([*given, *answer])
            labels.append([*[IGNORED] * len(given), *answer])
        return Encoded(
            split.ids,
            split.gold,
            row_starts(map(len, inputs)),
            row_starts(map(len, answers)),
            {"input_ids": np.concatenate(inputs), "labels": np.concatenate(labels)},
            {"input_ids": processor.pad_token_id, "labels": IGNORED},
            aside={"owners": owners},
        )

    def trained_on(self, split: Split) -> Split:
        """The rows with the first of their right answers."""
        return split._replace(gold=[(right_answer(gold),) for gold in split.gold])

    def full_lengths(self, split: Split, processor: Any) -> Ints | None:
        """Tokens of prompt and answer."""
        start, prompts, answers = self.tokens(split, processor)
        both = zip(prompts, answers, strict=True)
        return np.array([len(start) + len(prompt) + len(answer) for prompt, answer in both])

    def tokens(
        self, split: Split, tokenizer: Any
    ) -> tuple[list[int], list[list[int]], list[list[int]]]:
        """Ids before every prompt, and per row of the prompt and of the answer with its end."""
        gold = [text for own in split.gold for text in _texts(own)]
        asked = [p for p, own in zip(split.text, split.gold, strict=True) for _ in _texts(own)]
        if self.chat:
            asked_ids, answered = turns(asked, gold, tokenizer)
            return [], asked_ids, answered if self.end else [ids[:-1] for ids in answered]
        options = {"add_special_tokens": False, "verbose": False}  # no warning about lengths
        prompts = [prompt.rstrip(" ") for prompt in asked]
        breaks = [prompt.endswith("\n") for prompt in prompts]
        texts = [g if broken else f" {g}" for g, broken in zip(gold, breaks, strict=True)]
        end = [tokenizer.eos_token_id] if self.end else []
        return (
            tokenizer("")["input_ids"],
            tokenizer(prompts, **options)["input_ids"],
            [[*ids, *end] for ids in tokenizer(texts, **options)["input_ids"]],
        )

    def inputs(self, batch: Mapping[str, Tensor], *, targets: bool) -> dict[str, Any]:
        """With the places whose logits are computed: those before a token of an answer.

        On the meta device, which has no values, these are unknown and all are computed.
        """
        inputs = super().inputs(batch, targets=targets)
        if batch["labels"].is_meta:
            return inputs
        scored = _scored(batch)
        inputs["logits_to_keep"] = functional.pad(scored, (0, 1))  # nothing follows the last token
        if targets:
            inputs["shift_labels"] = batch["labels"][:, 1:][scored]
        return inputs

    def loss(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The mean over rows where `loss_per` says so; the model's own is that over tokens."""
        if self.loss_per == "token" or batch["labels"].is_meta:
            return None
        scored = _scored(batch)
        right = batch["labels"][:, 1:][scored]
        each = functional.cross_entropy(outputs.logits.float(), right, reduction="none")
        per_row = scored.sum(1)
        weights = (1 / per_row.clamp(min=1)).repeat_interleave(per_row)
        return (each * weights).sum() / (per_row > 0).sum()

    def targets(self, batch: Mapping[str, Tensor]) -> int:
        """Rows or tokens."""
        return len(batch["labels"]) if self.loss_per == "row" else super().targets(batch)

    def units(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The logits before each token of an answer, shape (n_tokens, vocabulary)."""
        logits: Tensor = outputs.logits
        return logits

    def stored(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Log-likelihood of each token of an answer, and id of the most likely one there."""
        logits = self.units(outputs, batch).float()
        right = batch["labels"][:, 1:][_scored(batch)]
        likelihood = logits.log_softmax(-1).gather(-1, right[:, None])[:, 0]
        return torch.stack([likelihood, logits.argmax(-1).float()], dim=-1)

    def answers(self, outputs: Outputs, data: Encoded) -> Any:
        """An `Answer` per example."""
        given = outputs[:, 1].astype(np.int64) == _answer_tokens(data)
        given = np.logical_and.reduceat(given, data.units[:-1])  # per row
        sums = np.add.reduceat(outputs[:, 0].astype(np.float64), data.units[:-1])
        answers = []
        for gold, first in zip(data.gold, _firsts(data), strict=True):
            texts, right = _texts(gold), first
            if isinstance(gold, Choices):
                right += gold.right
                text: str | None = texts[int(sums[first : first + len(texts)].argmax())]
            else:
                pairs = zip(texts, given[first : first + len(texts)], strict=True)
                text = next((wording for wording, is_given in pairs if is_given), None)
            tokens = int(data.units[right + 1] - data.units[right])
            answers.append(Answer(text, float(sums[right]), tokens))
        return answers

    def generated(self, answers: Any, texts: Sequence[str]) -> Any:
        """The answers with these texts."""
        return [a._replace(text=text) for a, text in zip(answers, texts, strict=True)]

    def perfect(self, references: Any) -> Any:
        """The right answers, each certain."""
        return [Answer(right_answer(gold), 0.0, 1) for gold in references]

    def constants(self, data: Encoded) -> list[Any]:
        """The most frequent answer for all examples, and each token by its frequency in answers.

        Of choices also the first of every example, the second, and so on. The frequencies are those
        in the rows of `data`; where these are not encoded, likelihoods are NaN.
        """
        rights = Counter(text for gold in data.gold for text in _rights(gold))
        ((text, _),) = rights.most_common(1)
        answers = [Answer(text, float("nan"), 1) for _ in data.gold]
        if data.columns:
            tokens = _answer_tokens(data)
            firsts = _firsts(data) + [getattr(gold, "right", 0) for gold in data.gold]
            rows = [tokens[data.units[row] : data.units[row + 1]] for row in firsts]
            together = np.concatenate(rows)
            _, numbers, counts = np.unique(together, return_inverse=True, return_counts=True)
            logs = np.log(counts / counts.sum())[numbers]
            each = np.split(logs, np.cumsum(list(map(len, rows)))[:-1])
            answers = [Answer(text, float(own.sum()), len(own)) for own in each]
        most = max((len(gold.texts) for gold in data.gold if isinstance(gold, Choices)), default=0)
        places = [
            [
                own._replace(text=gold.texts[place % len(gold.texts)])
                for own, gold in zip(answers, data.gold, strict=True)
            ]
            for place in range(most)
        ]
        return [answers, *places]

    def is_constant(self, answers: Any) -> bool:
        """Whether the model certainly generates the same text for all examples."""
        return answers[0].text is not None and all(a.text == answers[0].text for a in answers)

    def loss_to_beat(self, data: Encoded) -> float:
        """Entropy of the tokens of answers, weighted as in the loss, less 0.01, in nats."""
        from scipy import stats  # slow to import

        lengths = np.diff(data.units)
        per_row = np.repeat(1 / lengths, lengths) if self.loss_per == "row" else None
        _, numbers = np.unique(_answer_tokens(data), return_inverse=True)
        return float(stats.entropy(np.bincount(numbers, per_row))) - 0.01

    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """`label` (the first right answer), its `log_likelihood` and `tokens`, and `answer`.

        `answer` is empty where nothing was generated and it is not a right one.
        """
        answers = self.answers(outputs, data)
        return {
            "id": data.ids,
            "label": [right_answer(gold) for gold in data.gold],
            "answer": [answer.text or "" for answer in answers],
            "log_likelihood": [answer.log_likelihood for answer in answers],
            "tokens": [answer.tokens for answer in answers],
        }


def _texts(gold: tuple[str, ...] | Choices) -> tuple[str, ...]:
    """What an example has a row of: its right answers, or its choices."""
    return gold.texts if isinstance(gold, Choices) else gold


def _rights(gold: tuple[str, ...] | Choices) -> tuple[str, ...]:
    """The right answers of an example."""
    return (gold.texts[gold.right],) if isinstance(gold, Choices) else gold


def right_answer(gold: tuple[str, ...] | Choices) -> str:
    """The right answer that likelihoods are of."""
    return _rights(gold)[0]


def _chosen(
    values: Sequence[Any], choices: Sequence[Any]
) -> tuple[list[Choices], list[RowMistake]]:
    """The gold answers of examples with choices, and the mistakes."""
    gold, mistakes = [], []
    for row, (value, listed) in enumerate(zip(values, map(unquoted, choices), strict=True)):
        is_list = isinstance(listed, list | tuple | np.ndarray)
        plain = is_list and all(isinstance(each, str | int | float) for each in listed)
        texts = tuple(map(str, listed)) if plain else ()
        gold.append(Choices(texts, texts.index(str(value)) if str(value) in texts else 0))
        if len(set(texts)) < max(2, len(texts)) or not all(text.strip() for text in texts):
            mistakes.append((row, f"has the choices {listed!r}; give two different texts or more."))
        elif str(value) not in texts:
            mistakes.append((row, f"{value!r} is none of the choices {', '.join(texts)}."))
    return gold, mistakes


def longest_answer(kind: Generation, split: Split, tokenizer: Any) -> int:
    """Tokens of the longest answer with those that stand before every prompt, and the end."""
    start, _, answers = kind.tokens(split, tokenizer)
    return len(start) + max(map(len, answers))


def _scored(batch: Mapping[str, Tensor]) -> Tensor:
    """Whether the next token is one of an answer, shape (n_rows, longest - 1)."""
    return batch["labels"][:, 1:] != IGNORED


def _firsts(data: Encoded) -> Ints:
    """Row of the first right answer of each example, shape (n_examples,)."""
    return np.flatnonzero(np.diff(data.aside["owners"], prepend=-1))


def prompt_ids(data: Encoded) -> list[Ints]:
    """The ids of each example's prompt, as a model reads them when it generates."""
    ids, labels = data.columns["input_ids"], data.columns["labels"]
    rows = [slice(data.starts[row], data.starts[row + 1]) for row in _firsts(data)]
    return [ids[row][labels[row] == IGNORED] for row in rows]


def _answer_tokens(data: Encoded) -> Ints:
    """Ids of the tokens of all answers, row by row, ends included; shape (n_units,)."""
    labels = data.columns["labels"]
    found: Ints = labels[labels != IGNORED]
    return found
