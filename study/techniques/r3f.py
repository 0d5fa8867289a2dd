"""R3F: penalise changes of the outputs under small noise on the embeddings."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.passes import (
    Masks,
    Noise,
    extra_forward,
    input_embeddings,
    noise_like,
    symmetric_divergence,
)
from study.techniques.state import TrainState


class R3F(Technique):
    """Penalise the divergence between the outputs with and without noise on the embeddings.

    loss += weight * (KL(p(x) || p(x + z)) + KL(p(x + z) || p(x))).

    Attributes:
        weight: The paper's lambda; 0 changes nothing.
        epsilon: Largest absolute value of uniform noise, standard deviation of normal noise.
        noise: Distribution of the noise.
        masks: Dropout masks of the noisy pass. With `fresh`, as published, the penalty includes
            that of R-Drop, at the published epsilon almost nothing else; `shared` measures the
            noise alone.

    Example:
        >>> from study import R3F
        >>> R3F(epsilon=0.001, masks="shared").label
        'R3F(epsilon=0.001, masks=shared)'

    Source: Aghajanyan et al. 2021, equation 4; defaults of the published code, uniform noise up to
        1e-5 and weight 1. Differs: regression uses the squared difference, both ways, where the
        code drops the penalty; word embeddings get the noisy pass's gradient, which the code stops.
        In bfloat16 the published epsilon is below the rounding of the first matrix product: use
        float32, or a larger one.
    """

    weight: float = Field(default=1.0, ge=0.0)
    epsilon: float = Field(default=1e-5, gt=0.0)
    noise: Noise = "uniform"
    masks: Masks = "fresh"

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Add the penalty."""
        rng = state.device_rng("noise", "R3F", *state.now)
        shift = noise_like(input_embeddings(batch, state), self.epsilon, self.noise, rng)
        noisy = extra_forward(batch, state, masks=self.masks, shift=shift)
        return loss + self.weight * symmetric_divergence(outputs, noisy, batch, state)
