"""Greedy generation of the answers to a split's prompts."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.models.families import longest_input
from study.tasks.kinds.encoded import Encoded
from study.tasks.kinds.generation import prompt_ids
from study.techniques.state import TrainState

EVALUATION_BATCH = {"cpu": 16, "cuda": 128}  # rows, by device; few, so that a CPU can cache them
EVALUATED_PER_TRAINED = 4  # rows: evaluating one holds far less than training on one
LONGER = 2  # at most this many times the longest right answer is generated


def generate(state: TrainState, data: Encoded, tokenizer: Any) -> list[str]:
    """The most likely token, again and again, up to the end token.

    Prompts are padded on the left, so that all answers of a batch begin at one place. A text ends
    at twice the tokens of the split's longest right answer, or where the model's positions do.

    Args:
        state: Has the model, with the weights that count.
        data: The encoded split.
        tokenizer: The checkpoint's.

    Returns:
        A text per example, without special tokens and without space around it.
    """
    from transformers import GenerationConfig, StoppingCriteriaList  # takes seconds

    def beat(ids: Tensor, scores: Any) -> Tensor:
        state.heartbeat()
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)  # never stops

    prompts = prompt_ids(data)
    most = LONGER * int(np.diff(data.units).max())
    positions = longest_input(state.model.config)
    settings = GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    texts = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    model: Any = state.model.eval()
    bf16 = state.recipe.precision == "bfloat16"
    step = evaluated_together(state)
    # What is not set here would be taken from the checkpoint's, such as a penalty for repetition.
    own, model.generation_config = model.generation_config, GenerationConfig()
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        longest = len(prompts[rows[0]])
        ids = np.full((len(rows), longest), data.pad["input_ids"], np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, longest - len(prompts[row]) :] = prompts[row]
            mask[place, longest - len(prompts[row]) :] = 1
        settings.max_new_tokens = most if positions is None else min(most, positions - longest)
        with (
            torch.inference_mode(),
            torch.autocast(state.device.type, dtype=torch.bfloat16, enabled=bf16),
        ):
            found = model.generate(
                input_ids=torch.from_numpy(ids).to(state.device),
                attention_mask=torch.from_numpy(mask).to(state.device),
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([beat]),
            )
        for row, each in zip(rows, found[:, longest:].tolist(), strict=True):
            texts[row] = tokenizer.decode(each, skip_special_tokens=True).strip()
    model.generation_config = own
    return texts


def evaluated_together(state: TrainState) -> int:
    """Rows of an evaluation batch; few where training has few, as memory is short."""
    usual, part = EVALUATION_BATCH[state.device.type], state.recipe.micro_batch_size
    return usual if part is None else min(usual, EVALUATED_PER_TRAINED * part)
