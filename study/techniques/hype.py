"""HyPe: noise on the hidden states that enter each layer, in training only."""

from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from study.models.families import layers_of
from study.techniques.base import Technique
from study.techniques.passes import Noise, noise_like
from study.techniques.state import TrainState


class HyPe(Technique):
    """Add noise to every layer's input; the loss is unchanged.

    Every pass draws its own noise, as it draws its own dropout masks; a pass that repeats the masks
    repeats the noise. Evaluation has none.

    Attributes:
        epsilon: Largest absolute value of uniform noise, standard deviation of normal noise.
        noise: Distribution of the noise.

    Example:
        >>> from study import HyPe
        >>> HyPe(noise="normal").label
        'HyPe(normal)'

    Source: Yuan et al. 2023; the defaults are those of the published command, which also sets
        dropout to 0, as a recipe can. Differs: uniform noise is symmetric about 0, where the
        published code draws it from 0 to epsilon, which adds a constant. In bfloat16 the published
        epsilon is below the rounding of a layer's first matrix product: use float32, or a larger
        one.
    """

    acts_as_dropout: ClassVar[bool] = True

    epsilon: float = Field(default=1e-5, gt=0.0)
    noise: Noise = "uniform"

    def prepare(self, state: TrainState) -> None:
        """Register a hook before every layer."""
        rng = state.pass_rng("HyPe")  # a hook that held `state` would keep the model alive

        def add_noise(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden, *others = inputs  # (batch, tokens, dim)
            if not module.training:
                return inputs
            return hidden + noise_like(hidden, self.epsilon, self.noise, rng), *others

        for layer in layers_of(state.model, state.depths.family):
            layer.register_forward_pre_hook(add_noise)
