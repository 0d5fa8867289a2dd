"""FreeLB: adversarial training on perturbed input embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.passes import extra_forward, input_embeddings, noise_like, token_mask
from study.techniques.state import TrainState


class FreeLB(Technique):
    """Replace the task's loss by its mean over adversarial perturbations of the embeddings.

    Each ascent step takes the gradients of the weights and of the perturbation from the same
    backward pass; the former are averaged, the latter give the next perturbation. Dropout masks are
    the same in all of them. Other techniques' terms use the unperturbed pass, which costs one more
    forward pass per step.

    Attributes:
        steps: The paper's K.
        step_size: Length of an ascent step, as an L2 norm over the tokens of an example.
        magnitude: Size of the initial uniform perturbation; 0 starts at the embeddings themselves.
        epsilon: Bound on the L2 norm of an example's perturbation.

    Example:
        >>> from study import FreeLB
        >>> FreeLB(steps=2).label
        'FreeLB(2)'

    Source: Zhu et al. 2020, algorithm 1; the defaults are those of its RTE script for
        RoBERTa-large.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "RDrop": "each replaces the task's loss by a mean over its own passes"
    }

    steps: int = Field(default=3, gt=0)
    step_size: float = Field(default=0.06, gt=0.0)
    magnitude: float = Field(default=0.16, ge=0.0)
    epsilon: float = Field(default=0.14, gt=0.0)

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Replace the task's part of the loss."""
        trainable = [p for p in state.model.parameters() if p.requires_grad]
        shift, mean = self._initial_shift(batch, state), torch.zeros_like(outputs.loss)
        sums: list[Tensor] = []
        for _ in range(self.steps):
            shift.requires_grad_()
            part = extra_forward(batch, state, masks="shared", shift=shift).loss / self.steps
            ascent, *of_weights = torch.autograd.grad(part, [shift, *trainable], allow_unused=True)
            gradients = [g for g in of_weights if g is not None]
            sums = list(torch._foreach_add(sums, gradients)) if sums else gradients
            mean += part.detach()
            shift = self._ascend(shift.detach(), ascent)
        used = [p for p, g in zip(trainable, of_weights, strict=True) if g is not None]
        adversarial: Tensor = _PrecomputedGradients.apply(mean, sums, *used)  # type: ignore[no-untyped-call]
        return adversarial if loss is outputs.loss else loss - outputs.loss + adversarial

    def _initial_shift(self, batch: Mapping[str, Tensor], state: TrainState) -> Tensor:
        rng = state.device_rng("noise", "FreeLB", *state.now)
        embeddings = input_embeddings(batch, state)
        real = token_mask(batch, embeddings)  # (batch, tokens, 1)
        size = real.sum((1, 2), keepdim=True) * embeddings.shape[-1]
        drawn = noise_like(embeddings, 1.0, "uniform", rng)
        return drawn * real * self.magnitude / size.sqrt()

    def _ascend(self, shift: Tensor, ascent: Tensor) -> Tensor:
        """One ascent step of fixed length, then the projection into the epsilon ball."""
        shift = shift + self.step_size * ascent / _norm(ascent)
        return shift * (self.epsilon / _norm(shift)).clamp(max=1.0)


class _PrecomputedGradients(torch.autograd.Function):
    """A value with precomputed gradients, so that the graphs of all passes need not be kept."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> Any:
        return None, None, *torch._foreach_mul(ctx.gradients, scale)


def _norm(x: Tensor) -> Tensor:
    """L2 norm per example, at least 1e-8 as in the published code, shape (batch, 1, 1)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    return norm.clamp(min=1e-8)
