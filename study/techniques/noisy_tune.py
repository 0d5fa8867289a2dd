"""NoisyTune: noise on the pretrained weights before training."""

import torch
from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import TrainState


class NoisyTune(Technique):
    """Add noise to each pretrained weight tensor once, in proportion to its standard deviation.

    W += U(-intensity / 2, intensity / 2) * std(W). Constant tensors, such as newly initialised
    norms, are unchanged, and so are tensors with a single element, whose deviation is undefined.

    Attributes:
        intensity: Width of the noise in standard deviations; 0 changes nothing.

    Example:
        >>> from study import NoisyTune
        >>> NoisyTune(intensity=0.1).label
        'NoisyTune(0.1)'

    Source: Wu et al. 2022, equation 1; intensity 0.15 as in public copies of their code. Differs:
        nothing at the head's depth gets noise, not even a pretrained pooler.
    """

    intensity: float = Field(default=0.15, ge=0.0)

    @torch.no_grad()
    def weights(self, state: TrainState) -> None:
        """Draw from the `head` stream, since this is part of the initialisation."""
        for name, parameter in state.model.named_parameters():
            if parameter.numel() < 2 or state.depths.of(name) == state.depths.head:
                continue  # the standard deviation of one number is NaN
            rng = state.rng("head", "NoisyTune", name)
            noise = torch.rand(parameter.shape, generator=rng).sub_(0.5).to(parameter.device)
            parameter.add_(noise * (self.intensity * parameter.std()))
