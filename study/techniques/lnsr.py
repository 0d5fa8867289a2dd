"""Layerwise noise stability: noise put into a layer must not grow on its way up."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from study.models.families import Depths, layers_of
from study.techniques.base import Technique
from study.techniques.passes import real_tokens
from study.techniques.state import TrainState


class LNSR(Technique):
    """Penalise how far normal noise at one layer's input moves the outputs of it and those above.

    loss += weight * sum over layers r >= layer of the mean over tokens of |h_r(x + e) - h_r(x)|^2,
    with the same dropout in both passes.

    Attributes:
        weight: The paper's lambda, the same for all layers; 0 changes nothing.
        layer: Whose input is disturbed, from 1.
        sigma: Standard deviation of the noise.

    Source: Hua et al. 2021, layerwise noise stability regularisation with standard normal noise.
        Differs: the defaults are chosen here, as are one weight for all layers and a mean over
        tokens without padding. Where a norm follows the last layer (ModernBERT, ViT, Llama), the
        top term compares what that norm makes of it, whose scale is another.
    """

    weight: float = Field(default=1.0, ge=0.0)
    layer: int = Field(default=1, gt=0)
    sigma: float = Field(default=0.01, gt=0.0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The layer must be there, and be one place."""
        if depths.family.shared_layers:
            return "its layers are one module, so noise cannot enter at one of them"
        if self.layer > depths.layers:
            return f"layer={self.layer} is above its {depths.layers} layers"
        return None

    def prepare(self, state: TrainState) -> None:
        """Have the model return its hidden states."""
        state.model.config.output_hidden_states = True  # type: ignore[union-attr]

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Add the penalty."""
        clean = outputs.hidden_states  # embeddings, then every layer: (batch, tokens, dim) each
        rng = state.device_rng("noise", "LNSR", state.step)
        noise = torch.empty_like(clean[self.layer - 1], dtype=torch.float32)
        noise.normal_(0.0, self.sigma, generator=rng)
        layer = layers_of(state.model, state.depths.family)[self.layer - 1]
        handle = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] + noise, *inputs[1:]))
        try:
            with state.replayed_rng():
                noisy = state.forward(batch).hidden_states
        finally:
            handle.remove()
        real = real_tokens(batch, noise)  # (batch, tokens, 1)
        moved = [
            ((n.float() - c.float()).square() * real).sum() / real.sum()
            for n, c in zip(noisy[self.layer :], clean[self.layer :], strict=True)
        ]
        return loss + self.weight * torch.stack(moved).sum()

    def merge(self, model: nn.Module) -> None:
        """What is saved returns no more than a model that others trained."""
        model.config.output_hidden_states = False  # type: ignore[union-attr]
