"""SMART: smoothness-inducing adversarial regularisation and Bregman proximal updates."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.passes import (
    Masks,
    extra_forward,
    input_embeddings,
    noise_like,
    symmetric_divergence,
)
from study.techniques.state import TrainState

# Momentum of the average: BETA_EARLY in the first tenth of the run, then BETA.
EARLY, BETA_EARLY, BETA = 0.1, 0.99, 0.999


class SMART(Technique):
    """Penalise the worst change of the outputs near an input, and their drift from past weights.

    loss += weight * D(p(x), p(x + z)) + proximal * D(p(x), past p(x)), where D is the
    symmetric KL divergence, z one ascent step from normal noise, bounded by epsilon, and the past
    weights are a moving average (momentum Bregman proximal point).

    Attributes:
        weight: The paper's lambda_s.
        proximal: The paper's mu; 0 omits the past weights and their memory.
        step_size: Step of the ascent, in units of the embeddings: the largest component of each
            token's gradient moves by this much.
        sigma: Standard deviation of the noise that the ascent starts from.
        epsilon: Bound on every component of z.
        masks: Dropout masks of the extra passes: `fresh`, as in the published code, or `shared`
            with the step's first pass, so that only the shift or the weights differ.

    Example:
        >>> from study import SMART
        >>> SMART(weight=0.5, proximal=0.0).label
        'SMART(weight=0.5, proximal=0)'

    Source: Jiang et al. 2020, algorithm 1 with its settings and one ascent step. Differs: the
        published code starts the step at the clean embeddings and has no bound, and its 1e-6 in the
        gradient's norm ties the step to the batch size; here the norm is exact. Where the gradient
        is not finite, z keeps its initial value, where the code drops the penalty. The code
        also detaches p(x); here the gradient passes through both outputs, as in the formula, and
        is about twice as large. Regression uses the squared difference both ways. In bfloat16 the
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
        """Initialise the past weights with the present ones."""
        if self.proximal > 0:
            weights = {n: state.model.get_parameter(n) for n in state.trainable}
            state.memo["SMART"] = {n: p.detach().clone() for n, p in weights.items()}

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Add both penalties."""
        shift = self._adversarial_shift(outputs, batch, state)
        shifted = extra_forward(batch, state, masks=self.masks, shift=shift)
        loss = loss + self.weight * symmetric_divergence(outputs, shifted, batch, state)
        if self.proximal > 0:
            with torch.no_grad():
                past = extra_forward(batch, state, masks=self.masks, weights=state.memo["SMART"])
            loss = loss + self.proximal * symmetric_divergence(outputs, past, batch, state)
        return loss

    def after_step(self, state: TrainState) -> None:
        """Move the past weights towards the present ones."""
        if self.proximal > 0:
            beta = BETA_EARLY if state.step <= EARLY * state.steps else BETA
            past: dict[str, Tensor] = state.memo["SMART"]
            present = [state.model.get_parameter(name).detach() for name in past]
            torch._foreach_lerp_(list(past.values()), present, 1 - beta)

    def _adversarial_shift(
        self, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        rng = state.device_rng("noise", "SMART", *state.now)
        shift = noise_like(input_embeddings(batch, state), self.sigma, "normal", rng)
        shift.requires_grad_()
        noisy = extra_forward(batch, state, masks=self.masks, shift=shift)
        (gradient,) = torch.autograd.grad(symmetric_divergence(outputs, noisy, batch, state), shift)
        gradient = torch.where(gradient.isfinite(), gradient, 0.0)
        largest = gradient.abs().amax(-1, keepdim=True)  # (batch, tokens, 1); 0 at padding
        direction = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)
        return (shift.detach() + self.step_size * direction).clamp(-self.epsilon, self.epsilon)
