"""Whether a task's rows fit a checkpoint: what would fail in every run is found beforehand."""

from typing import Any

import numpy as np

from study.core.spec import Mistake
from study.tasks import TaskData
from study.tasks.kinds.base import QUESTION_TOKENS
from study.tasks.kinds.conversations import template_mistake
from study.tasks.kinds.encoded import Encoded
from study.tasks.kinds.generation import Generation, longest_answer

SHOWN = 5  # rows that are named of those with the same mistake
CHECKPOINT = "checkpoint"  # path of mistakes of the model


def text_mistakes(data: TaskData, tokenizer: Any, max_length: int) -> list[Mistake]:
    """What prevents the rows from being encoded.

    Args:
        data: The task's rows.
        tokenizer: The checkpoint's.
        max_length: Tokens per row at most.
    """
    mistakes = []
    if tokenizer.pad_token_id is None:
        text = (
            "its tokenizer has neither a padding nor an end token, so that rows of several lengths "
            'make no batch; set "pad_token" in tokenizer_config.json to one of its tokens.'
        )
        mistakes.append(Mistake(CHECKPOINT, text))
    some = next(iter(data.splits.values()))
    taken = tokenizer.num_special_tokens_to_add(pair=some.text_pair is not None)
    by = "special tokens"
    if data.kind.name == "span":
        taken += min(QUESTION_TOKENS, max_length // 3) + max_length // 3
        by += ", the question and the overlap of windows"
    elif isinstance(data.kind, Generation):
        if tokenizer.eos_token_id is None:
            text = (
                "its tokenizer has no end token, so that no answer would end; set "
                '"eos_token" in tokenizer_config.json to the one that it was trained with.'
            )
            return [*mistakes, Mistake(CHECKPOINT, text)]
        if data.kind.chat:
            for prompt in _of_each_pattern(data):
                if mistake := template_mistake(prompt, tokenizer):
                    return [*mistakes, Mistake(CHECKPOINT, mistake)]
        taken = max(longest_answer(data.kind, split, tokenizer) for split in data.splits.values())
        by = "the longest answer"
    elif data.truncate == "only_second":
        taken += min(QUESTION_TOKENS, max_length // 2)
        by += " and the first text"
    if taken >= max_length:
        text = f"{max_length} leaves no room for the text beside {by}, up to {taken}; raise it."
        mistakes.append(Mistake("recipe.max_length", text))
    return mistakes


def _of_each_pattern(data: TaskData) -> list[Any]:
    """A prompt of each sequence of roles, and one that is a plain text."""
    prompts = [text for split in data.splits.values() for text in split.text]
    roles = [tuple(role for role, _ in p) if isinstance(p, tuple) else () for p in prompts]
    return list(dict(zip(roles, prompts, strict=True)).values())


def processor_mistakes(processor: Any) -> list[Mistake]:
    """What prevents images from being encoded with the checkpoint's image processor."""
    needed = ("image_mean", "image_std", "rescale_factor")
    lacking = [name for name in needed if not getattr(processor, name, None)]
    if not lacking:
        return []
    text = f"preprocessor_config.json lacks {', '.join(lacking)}; add the values of pretraining."
    return [Mistake(CHECKPOINT, text)]


def pixel_mistakes(splits: dict[str, Encoded], config: Any) -> list[Mistake]:
    """What prevents a model from reading the encoded images.

    Args:
        splits: The encoded splits.
        config: The checkpoint's configuration.
    """
    made = splits["train"].arrays["pixel_values"].shape[2:]
    size = config.image_size
    wanted = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if made == wanted:
        return []
    text = (
        f"its image processor makes images of {made[0]} x {made[1]} pixels, and the model reads "
        f"{wanted[0]} x {wanted[1]}; correct the size in preprocessor_config.json."
    )
    return [Mistake(CHECKPOINT, text)]


def token_mistakes(
    data: TaskData, splits: dict[str, Encoded], tokenizer: Any, config: Any
) -> list[Mistake]:
    """What prevents a model from reading the encoded rows.

    Args:
        data: The task's rows.
        splits: The same, encoded.
        tokenizer: The checkpoint's.
        config: The checkpoint's configuration.
    """
    embeddings, segments = config.vocab_size, getattr(config, "type_vocab_size", 0)
    mistakes = []
    for name, split in splits.items():
        empty = np.flatnonzero(split.lengths == 0)
        for row in empty[:SHOWN]:
            text = "has no tokens: the tokenizer drops all of its characters; remove the row."
            mistakes.append(Mistake(_origin(data, name, split, int(row)), text))
        if len(empty) > SHOWN:
            source = data.origins[name].source
            text = f"and {len(empty) - SHOWN} more rows without tokens."
            mistakes.append(Mistake(source, text))
        row = _first_beyond(split, "input_ids", embeddings)
        if row is not None and not any("without an embedding" in m.text for m in mistakes):
            text = (
                f"its tokenizer has {len(tokenizer)} tokens for {embeddings} embeddings, and one "
                f"without an embedding occurs in {_origin(data, name, split, row)}; call "
                "model.resize_token_embeddings(len(tokenizer)) in transformers, save the model and "
                "name that folder."
            )
            mistakes.append(Mistake(CHECKPOINT, text))
        if segments and _first_beyond(split, "token_type_ids", segments) is not None:
            text = (
                f"its config.json has {segments} token type{'s' if segments > 1 else ''} "
                "(type_vocab_size), but its tokenizer gives the second text of a pair token type "
                "1; use the tokenizer that belongs to the model, or remove token_type_ids from "
                '"model_input_names" in tokenizer_config.json.'
            )
            mistakes.append(Mistake(CHECKPOINT, text))
    if tokenizer.pad_token_id >= embeddings:
        text = (
            f"its padding token {tokenizer.pad_token!r} was added to the tokenizer as number "
            f"{tokenizer.pad_token_id} and has no embedding, since there are {embeddings}; name "
            'another token as "pad_token" in tokenizer_config.json, or resize the embeddings.'
        )
        mistakes.append(Mistake(CHECKPOINT, text))
    return list(dict.fromkeys(mistakes))


def _first_beyond(split: Encoded, column: str, size: int) -> int | None:
    """The first row with a number in this column that is not below the size."""
    beyond = split.columns.get(column, np.empty(0, np.int64)) >= size
    if not beyond.any():
        return None
    return int(np.searchsorted(split.starts, int(beyond.argmax()), side="right")) - 1


def _origin(data: TaskData, name: str, split: Encoded, row: int) -> str:
    example = int(split.aside["owners"][row]) if "owners" in split.aside else row
    return data.origins[name].location(example)
