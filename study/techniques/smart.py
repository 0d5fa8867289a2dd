"""SMART: smooth answers around each input, and small steps as seen in the answers."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.passes import Masks, another, embedded, symmetric
from study.techniques.state import TrainState

EARLY, BETA_EARLY, BETA = 0.1, 0.99, 0.999  # momentum, for the first tenth of the run and after it


class SMART(Technique):
    """Penalise the worst change of the answers near an input, and their drift from past weights.

    loss += weight * D(p(x), p(x + z)) + proximal * D(p(x), past p(x)), where D is the KL divergence
    both ways, z one ascent step from normal noise within epsilon, and the past weights a moving
    average (momentum Bregman proximal point).

    Attributes:
        weight: The paper's lambda_s.
        proximal: The paper's mu; 0 leaves out the past weights and their memory.
        step_size: Of the ascent, in units of the embeddings: the largest part of each token's
            gradient moves by this much.
        sigma: Standard deviation of the noise that the ascent starts from.
        epsilon: Bound on every part of z.
        masks: Dropout of the further passes: `fresh`, as in the published code, or `shared` with
            the step's first pass, which leaves the shift or the weights as the only difference.

    Source: Jiang et al. 2020, algorithm 1 with its settings and one ascent step. Differs: the
        published code starts the step at the clean embeddings and has no bound, and its 1e-6 in the
        gradient's norm ties the step to the batch size; here the norm is exact. Where the gradient
        is not finite z stays at its start, where the code drops the penalty. The code
        also holds p(x) fixed; here the gradient passes through both answers, as in the formula, and
        is about twice as large. Values take the squared difference both ways. In bfloat16 the
        published epsilon is below the rounding of the first matrix product: use float32, or a
        larger one.
    """

    weight: float = Field(default=1.0, ge=0.0)
    proximal: float = Field(default=1.0, ge=0.0)
    step_size: float = Field(default=1e-3, gt=0.0)
    sigma: float = Field(default=1e-5, gt=0.0)
    epsilon: float = Field(default=1e-5, gt=0.0)
    masks: Masks = "fresh"

    def prepare(self, state: TrainState) -> None:
        """The past weights begin as the present ones."""
        if self.proximal > 0:
            weights = {n: state.model.get_parameter(n) for n in state.trainable}
            state.memo["SMART"] = {n: p.detach().clone() for n, p in weights.items()}

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Add both penalties."""
        shift = self._ascended(outputs, batch, state)
        shifted = another(batch, state, masks=self.masks, shift=shift)
        loss = loss + self.weight * symmetric(outputs, shifted, batch, state)
        if self.proximal > 0:
            with torch.no_grad():
                past = another(batch, state, masks=self.masks, weights=state.memo["SMART"])
            loss = loss + self.proximal * symmetric(outputs, past, batch, state)
        return loss

    def after_step(self, state: TrainState) -> None:
        """Move the past weights towards the present ones."""
        if self.proximal > 0:
            beta = BETA_EARLY if state.step <= EARLY * state.steps else BETA
            past: dict[str, Tensor] = state.memo["SMART"]
            present = [state.model.get_parameter(name).detach() for name in past]
            torch._foreach_lerp_(list(past.values()), present, 1 - beta)

    def _ascended(self, outputs: Any, batch: Mapping[str, Tensor], state: TrainState) -> Tensor:
        rng = state.device_rng("noise", "SMART", state.step)
        shift = torch.empty_like(embedded(batch, state), dtype=torch.float32)
        shift = shift.normal_(0.0, self.sigma, generator=rng).requires_grad_()
        noisy = another(batch, state, masks=self.masks, shift=shift)
        (gradient,) = torch.autograd.grad(symmetric(outputs, noisy, batch, state), shift)
        gradient = torch.where(gradient.isfinite(), gradient, 0.0)
        largest = gradient.abs().amax(-1, keepdim=True)  # (batch, tokens, 1); 0 at padding
        direction = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)
        return (shift.detach() + self.step_size * direction).clamp(-self.epsilon, self.epsilon)
