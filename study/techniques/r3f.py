"""R3F: answers must not change when the embeddings are disturbed a little."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.passes import Masks, another, embedded, symmetric
from study.techniques.state import TrainState


class R3F(Technique):
    """Penalise the divergence between the answers with and without noise on the embeddings.

    loss += weight * (KL(p(x) || p(x + z)) + KL(p(x + z) || p(x))).

    Attributes:
        weight: The paper's lambda; 0 changes nothing.
        epsilon: Largest noise, or its standard deviation where it is normal.
        noise: Its distribution.
        masks: Dropout of the disturbed pass. `fresh`, as published, makes the penalty in part that
            of R-Drop: at the published epsilon nearly all of it; `shared` leaves the noise alone.

    Source: Aghajanyan et al. 2021, equation 4; defaults of the published code, uniform noise up to
        1e-5 and weight 1. Differs: values take the squared difference, both ways, where the code
        drops the penalty; word embeddings get the disturbed pass's gradient, which the code stops.
        In bfloat16 the published epsilon is below the rounding of the first matrix product: use
        float32, or a larger one.
    """

    weight: float = Field(default=1.0, ge=0.0)
    epsilon: float = Field(default=1e-5, gt=0.0)
    noise: Literal["uniform", "normal"] = "uniform"
    masks: Masks = "fresh"

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Add the penalty."""
        rng = state.device_rng("noise", "R3F", state.step)
        shift = torch.empty_like(embedded(batch, state), dtype=torch.float32)
        if self.noise == "normal":
            shift.normal_(0.0, self.epsilon, generator=rng)
        else:
            shift.uniform_(-self.epsilon, self.epsilon, generator=rng)
        disturbed = another(batch, state, masks=self.masks, shift=shift)
        return loss + self.weight * symmetric(outputs, disturbed, batch, state)
