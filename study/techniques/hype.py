"""HyPe: a little noise on the hidden states that enter each layer, in training alone."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from study.models.families import layers_of
from study.techniques.base import Technique
from study.techniques.state import TrainState


class HyPe(Technique):
    """Add noise to every layer's input; the loss stays as it is.

    Every pass draws its own noise as it draws its own dropout, and one that repeats the dropout
    repeats the noise. Evaluation has none.

    Attributes:
        epsilon: Largest noise, or its standard deviation where it is normal.
        noise: Its distribution.

    Source: Yuan et al. 2023; the defaults are those of the published command, which also sets
        dropout to 0, as a recipe can. Differs: uniform noise lies on both sides of 0, where the
        published code draws it from 0 to epsilon, which adds a constant. In bfloat16 the published
        epsilon is below the rounding of a layer's first matrix product: use float32, or a larger
        one.
    """

    acts_as_dropout: ClassVar[bool] = True

    epsilon: float = Field(default=1e-5, gt=0.0)
    noise: Literal["uniform", "normal"] = "uniform"

    def prepare(self, state: TrainState) -> None:
        """Put a hook before every layer."""
        rng = state.pass_rng("HyPe")  # a hook that held the state would keep the model alive

        def disturb(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden, *others = inputs  # (batch, tokens, dim)
            if not module.training:
                return inputs
            drawn = torch.empty_like(hidden, dtype=torch.float32)
            if self.noise == "normal":
                drawn.normal_(0.0, self.epsilon, generator=rng)
            else:
                drawn.uniform_(-self.epsilon, self.epsilon, generator=rng)
            return hidden + drawn, *others

        for layer in layers_of(state.model, state.depths.family):
            layer.register_forward_pre_hook(disturb)
