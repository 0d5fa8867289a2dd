"""Ways to run a step in less memory that move no bit, so that they are no part of a run's key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from study.core.recipe import Recipe
from study.techniques.base import Technique, parts_of
from study.training.memory import step_alone


class MemorySavers(NamedTuple):
    """What a run does to need less memory.

    Attributes:
        gradient_checkpointing: Save the inputs of each layer, and compute it again in the backward
            pass (Chen et al. 2016).
        step_in_backward: Update each weight in the backward pass, as soon as its gradient is there,
            so that gradients are never held all at once (Lv et al. 2023).
    """

    gradient_checkpointing: bool = False
    step_in_backward: bool = False

    @classmethod
    def from_text(cls, text: str) -> "MemorySavers":
        """Those that a text of `text` names; other words are ignored."""
        words = text.split(", ")
        return cls(**{name: name in words for name in cls._fields})

    def text(self) -> str:
        """Those in use, comma-separated; empty for none."""
        return ", ".join(name for name, used in self._asdict().items() if used)


def misfit(savers: MemorySavers, technique: Technique, recipe: Recipe) -> str | None:
    """Why a configuration cannot be run in this way; None if it can.

    Args:
        savers: How to run it.
        technique: The configuration's.
        recipe: Its recipe, after the technique's `recipe` hook.
    """
    if not savers.step_in_backward:
        return None
    if recipe.clip_norm is not None:
        return (
            "step_in_backward has no norm of all gradients to clip by; set clip_norm=None in the "
            "recipe of all techniques that are compared"
        )
    if recipe.micro_batch_size is not None:
        return "step_in_backward has no gradients to accumulate; set micro_batch_size=None"
    for part in parts_of(technique):
        if type(part).after_backward is not Technique.after_backward:
            return f"step_in_backward has dropped the gradients that {part.title} acts on"
    return None


@contextmanager
def step_in_backward(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within it, a backward pass updates each weight, and then drops its gradient.

    The same optimizer steps one weight at a time, so states and bits are those of one step for all.
    A weight's gradient is complete once every operation that uses the weight has been passed.
    """
    own = {p: group for group in optimizer.param_groups for p in group["params"]}

    def update(parameter: Tensor) -> None:
        step_alone(optimizer, own[parameter], parameter)

    trained = [parameter for parameter in own if parameter.requires_grad]
    handles = [parameter.register_post_accumulate_grad_hook(update) for parameter in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
