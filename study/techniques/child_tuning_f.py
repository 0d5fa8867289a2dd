"""Task-free child-tuning: update a random part of the weights in every step."""

import torch
from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import TrainState


class ChildTuningF(Technique):
    """Drop random gradients in every step and scale up the rest.

    Below the head each gradient is kept with probability p and divided by p, so its expectation is
    unchanged. A weight whose gradient is dropped still moves by momentum and weight decay.

    Attributes:
        p: Share of the gradients that are kept, in (0, 1]; 1 changes nothing.

    Example:
        >>> from study import ChildTuningF
        >>> ChildTuningF(p=0.4).label
        'ChildTuningF(0.4)'

    Source: Xu et al. 2021, Child-Tuning-F; p is the middle of their grid. Differs: their code
        drops gradients of the new head too.
    """

    p: float = Field(default=0.3, gt=0.0, le=1.0)

    @torch.no_grad()
    def after_backward(self, state: TrainState) -> None:
        """Mask the gradients, after clipping as in the published code."""
        # On the gradients' device: copying a mask of the model's size costs more than the step.
        rng = state.device_rng("noise", "ChildTuningF", state.step)
        for name, weight in state.model.named_parameters():
            if weight.grad is not None and state.depths.of(name) < state.depths.head:
                mask = torch.empty_like(weight.grad).bernoulli_(self.p, generator=rng)
                weight.grad.mul_(mask).div_(self.p)
