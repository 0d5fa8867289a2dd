"""Generation: a text that answers a prompt, by a decoder with its pretrained head."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from study.tasks.kinds.base import Kind, Outputs, RowMistake, Split, row_starts
from study.tasks.kinds.encoded import Encoded, Ints
from study.tasks.kinds.tagging import IGNORED


class Answer(NamedTuple):
    """What a model makes of the right answer to a prompt.

    Attributes:
        text: The right answer where each of its tokens is the most likely one, so that greedy
            generation gives it; else None, whatever would be generated.
        log_likelihood: Of the right answer and the end after it, in nats; NaN where unknown.
        tokens: Their number.
    """

    text: str | None
    log_likelihood: float
    tokens: int


class Generation(Kind):
    """An answer to a prompt; gold is a tuple with the right answer per example.

    A row is the prompt, the answer and the end-of-text token, and the loss is the mean over the
    tokens of the answers in a batch, the end included. Prompt and answer are tokenised apart, so
    that the model sees the same tokens when it generates; a space is put between them unless the
    prompt ends with a line break. A prompt that is too long loses its beginning, the answer
    nothing. The head is that of pretraining and no new one.

    Source: Touvron et al. 2023 (Llama 2), section 3.1, the loss on answers alone; Gao et al. 2021
        (language model evaluation harness), exact match by the most likely token of each place,
        and the space.
    """

    name = "generation"
    auto = "AutoModelForCausalLM"
    pretrained_head = True

    @property
    def outputs(self) -> int:
        """Two: of each token of an answer its log-likelihood, and the most likely token's id."""
        return 2

    def gold(
        self, values: Sequence[Any], texts: Sequence[Any], pairs: Sequence[Any] | None
    ) -> tuple[Any, list[RowMistake]]:
        """A tuple with one text per example; numbers as they are written."""
        gold: list[tuple[str, ...]] = []
        mistakes: list[RowMistake] = []
        for row, (value, prompt) in enumerate(zip(values, texts, strict=True)):
            gold.append((str(value),))
            if not isinstance(value, str | int | float):
                mistakes.append((row, f"{value!r} is not a text; give one answer per row."))
            elif not gold[row][0].strip():
                mistakes.append((row, "is empty; give the answer that is to be generated."))
            if isinstance(prompt, str) and not prompt.strip():
                mistakes.append((row, "has an empty prompt, from which nothing follows."))
        return gold, mistakes

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per example."""
        start, prompts, answers = _tokens(split, processor)
        inputs, labels = [], []
        for prompt, answer in zip(prompts, answers, strict=True):
            room = max(0, max_length - len(start) - len(answer))
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
        )

    def full_lengths(self, split: Split, processor: Any) -> Ints | None:
        """Tokens of prompt and answer."""
        start, prompts, answers = _tokens(split, processor)
        both = zip(prompts, answers, strict=True)
        return np.array([len(start) + len(prompt) + len(answer) for prompt, answer in both])

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
        right = outputs[:, 1].astype(np.int64) == _answer_tokens(data)
        answers = []
        for row, gold in enumerate(data.gold):
            inside = slice(data.units[row], data.units[row + 1])
            likelihood = float(outputs[inside, 0].sum(dtype=np.float64))
            text = gold[0] if right[inside].all() else None
            answers.append(Answer(text, likelihood, inside.stop - inside.start))
        return answers

    def perfect(self, references: Any) -> Any:
        """The right answers, each certain."""
        return [Answer(gold[0], 0.0, 1) for gold in references]

    def constants(self, data: Encoded) -> list[Any]:
        """The most frequent answer for all examples, and each token by its frequency in answers.

        The frequencies are those in the rows of `data`; where these are not encoded, likelihoods
        are NaN.
        """
        ((text, _),) = Counter(gold[0] for gold in data.gold).most_common(1)
        if not data.columns:
            return [[Answer(text, float("nan"), 1) for _ in data.gold]]
        _, numbers, counts = np.unique(
            _answer_tokens(data), return_inverse=True, return_counts=True
        )
        logs = np.log(counts / counts.sum())[numbers]
        sums = np.add.reduceat(logs, data.units[:-1])
        lengths = np.diff(data.units)
        return [[Answer(text, float(s), int(n)) for s, n in zip(sums, lengths, strict=True)]]

    def is_constant(self, answers: Any) -> bool:
        """Whether the model certainly generates the same text for all examples."""
        return answers[0].text is not None and all(a.text == answers[0].text for a in answers)

    def loss_to_beat(self, data: Encoded) -> float:
        """Entropy of the tokens of answers less 0.01, in nats."""
        from scipy import stats  # slow to import

        _, counts = np.unique(_answer_tokens(data), return_counts=True)
        return float(stats.entropy(counts)) - 0.01

    def table(self, outputs: Outputs, data: Encoded) -> dict[str, Any]:
        """`answer` (empty where not the right one), its `log_likelihood` and `tokens`."""
        answers = self.answers(outputs, data)
        return {
            "id": data.ids,
            "label": [gold[0] for gold in data.gold],
            "answer": [answer.text or "" for answer in answers],
            "log_likelihood": [answer.log_likelihood for answer in answers],
            "tokens": [answer.tokens for answer in answers],
        }


def _tokens(split: Split, tokenizer: Any) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """Ids before every prompt, of each prompt, and of each answer with its end."""
    options = {"add_special_tokens": False, "verbose": False}  # no warning about lengths
    prompts, answers = [], []
    for prompt, (answer, *_) in zip(split.text, split.gold, strict=True):
        bare = prompt.rstrip(" ")
        prompts.append(bare)
        answers.append(answer if bare.endswith("\n") else f" {answer}")
    return (
        tokenizer("")["input_ids"],
        tokenizer(prompts, **options)["input_ids"],
        [[*ids, tokenizer.eos_token_id] for ids in tokenizer(answers, **options)["input_ids"]],
    )


def longest_answer(split: Split, tokenizer: Any) -> int:
    """Tokens of the longest answer with those that stand before every prompt, and the end."""
    start, _, answers = _tokens(split, tokenizer)
    return len(start) + max(map(len, answers))


def _scored(batch: Mapping[str, Tensor]) -> Tensor:
    """Whether the next token is one of an answer, shape (n_rows, longest - 1)."""
    return batch["labels"][:, 1:] != IGNORED


def _answer_tokens(data: Encoded) -> Ints:
    """Ids of the tokens of all answers, row by row, ends included; shape (n_units,)."""
    labels = data.columns["labels"]
    found: Ints = labels[labels != IGNORED]
    return found
