"""NoisyTune: a little noise on the pretrained weights before training."""

import torch
from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import TrainState


class NoisyTune(Technique):
    """Disturb each pretrained weight tensor in proportion to its own spread, once, at the start.

    W += U(-intensity / 2, intensity / 2) * std(W). Constant tensors, such as fresh norms, do not
    move, and tensors with a single element have no spread, so they are left alone.

    Attributes:
        intensity: Width of the noise in standard deviations; 0 changes nothing.

    Source: Wu et al. 2022, equation 1; intensity 0.15 as in public copies of their code. Differs:
        nothing at the head's depth is disturbed, a pretrained pooler included.
    """

    intensity: float = Field(default=0.15, ge=0.0)

    @torch.no_grad()
    def weights(self, state: TrainState) -> None:
        """Draw from `head`, a generator per parameter: it is an effect of the initialisation."""
        for name, parameter in state.model.named_parameters():
            if parameter.numel() < 2 or state.depths.of(name) == state.depths.head:
                continue  # the standard deviation of one number is NaN
            rng = state.rng("head", "NoisyTune", name)
            noise = torch.rand(parameter.shape, generator=rng).sub_(0.5).to(parameter.device)
            parameter.add_(noise * (self.intensity * parameter.std()))
