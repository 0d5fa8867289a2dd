"""LNSR, layerwise noise stability regularisation: noise at a layer must not grow above it."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from study.models.families import Depths, layers_of
from study.techniques.base import Technique
from study.techniques.passes import noise_like, return_hidden_states, token_mask
from study.techniques.state import TrainState


class LNSR(Technique):
    """Penalise how far noise at one layer's input moves the outputs of this and higher layers.

    loss += weight * sum over layers r >= layer of the mean over tokens of |h_r(x + e) - h_r(x)|^2,
    with the same dropout in both passes.

    Attributes:
        weight: The paper's lambda, the same for all layers; 0 changes nothing.
        layer: Layer whose input gets the noise, from 1.
        sigma: Standard deviation of the noise.

    Example:
        >>> from study import LNSR
        >>> LNSR(layer=2, sigma=0.1).label
        'LNSR(layer=2, sigma=0.1)'

    Source: Hua et al. 2021, layerwise noise stability regularisation with standard normal noise.
        Differs: the defaults are chosen here, as are one weight for all layers and a mean over
        tokens without padding. Where a norm follows the last layer (ModernBERT, ViT, Llama), the
        top term is computed after that norm, on another scale.
    """

    weight: float = Field(default=1.0, ge=0.0)
    layer: int = Field(default=1, gt=0)
    sigma: float = Field(default=0.01, gt=0.0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The layer must exist and have weights of its own."""
        if depths.family.shared_layers:
            return "its layers are one module, so noise cannot enter at one of them"
        if self.layer > depths.layers:
            return f"layer={self.layer} is above its {depths.layers} layers"
        return None

    def prepare(self, state: TrainState) -> None:
        """Request the hidden states."""
        return_hidden_states(state.model, enabled=True)

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Add the penalty."""
        clean = outputs.hidden_states  # embeddings, then every layer: (batch, tokens, dim) each
        rng = state.device_rng("noise", "LNSR", *state.now)
        noise = noise_like(clean[self.layer - 1], self.sigma, "normal", rng)
        layer = layers_of(state.model, state.depths.family)[self.layer - 1]
        handle = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] + noise, *inputs[1:]))
        try:
            with state.replayed_rng():
                noisy = state.forward(batch).hidden_states
        finally:
            handle.remove()
        real = token_mask(batch, noise)  # (batch, tokens, 1)
        distances = [
            ((n.float() - c.float()).square() * real).sum() / real.sum()
            for n, c in zip(noisy[self.layer :], clean[self.layer :], strict=True)
        ]
        return loss + self.weight * torch.stack(distances).sum()

    def merge(self, model: nn.Module) -> None:
        """Stop returning hidden states."""
        return_hidden_states(model, enabled=False)
