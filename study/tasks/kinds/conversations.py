"""Conversations: prompts and answers as turns, written by a tokenizer's chat template."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from study.tasks.kinds.base import unquoted

Message = tuple[str, str]  # role and content


def conversation(value: Any) -> tuple[Any, Any]:
    """The messages of a whole conversation before the last, and the last one's content.

    What is no such conversation is returned as it is, with an empty answer.
    """
    turns = unquoted(value)
    turns = list(turns) if isinstance(turns, list | tuple | np.ndarray) else []
    last = turns[-1] if turns and isinstance(turns[-1], dict) else {}
    if last.get("role") != "assistant":
        return value, ""
    return turns[:-1], last.get("content", "")


def template_mistake(prompt: str | tuple[Message, ...], tokenizer: Any) -> str | None:
    """What prevents a tokenizer's chat template from being used; None if nothing does."""
    if not tokenizer.chat_template:
        return "its tokenizer has no chat template; take a chat model, or leave out chat=True."
    try:
        asked, answered = _written(prompt, None, tokenizer), _written(prompt, "yes", tokenizer)
    except Exception as error:  # templates raise errors of jinja, and others
        roles = ["user"] if isinstance(prompt, str) else [role for role, _ in prompt]
        return f"its chat template refuses messages of {', '.join(roles)}: {error}"
    if answered[: len(asked)] != asked or len(answered) == len(asked):
        return (
            "its chat template writes a prompt differently when an answer follows, so that the "
            "tokens of the answer cannot be told; use chat=False with a prompt of your own."
        )
    return None


def turns(
    prompts: Sequence[str | tuple[Message, ...]], answers: Sequence[str], tokenizer: Any
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of each prompt and of each answer, up to the token that ends a turn."""
    asked, answered = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        before = _written(prompt, None, tokenizer)
        ids = _written(prompt, answer, tokenizer)[len(before) :]
        end = tokenizer.eos_token_id
        if end in ids:  # templates often write a line break after it, which nothing reads
            ids = ids[: len(ids) - ids[::-1].index(end)]
        asked.append(before)
        answered.append(ids if end in ids else [*ids, end])
    return asked, answered


def _written(prompt: str | tuple[Message, ...], answer: str | None, tokenizer: Any) -> list[int]:
    """Ids of a conversation, up to where the answer begins if there is none."""
    messages = (("user", prompt),) if isinstance(prompt, str) else prompt
    turns = [{"role": role, "content": content} for role, content in messages]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    ids: list[int] = tokenizer.apply_chat_template(
        turns, add_generation_prompt=answer is None, tokenize=True, return_dict=False
    )
    return ids


def check_roles(messages: Sequence[Message]) -> None:
    """That a conversation is one: maybe `system`, then `user` and `assistant` by turns.

    Raises:
        ValueError: If not, or if the last message is not the user's.
    """
    roles = [role for role, _ in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or turns != (["user", "assistant"] * len(turns))[: len(turns)]:
        raise ValueError(
            f"has messages of {', '.join(roles)}; after an optional system message they must be of "
            "user and assistant by turns."
        )
    if turns[-1] != "user":
        raise ValueError("ends with a message of assistant; give that one as the label.")
