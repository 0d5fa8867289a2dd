"""FreeLB: train on embeddings moved where the loss rises, at every step of the climb."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.passes import another, embedded, real_tokens
from study.techniques.state import TrainState


class FreeLB(Technique):
    """Replace the task's loss by its mean over adversarial steps in the embeddings.

    Each step takes the gradients of the weights and of the shift from the same backward pass; those
    of the weights are averaged, those of the shift lead to the next one. Dropout is the same in all
    steps. Other techniques' terms keep the undisturbed pass, so a step costs one more forward.

    Attributes:
        steps: The paper's K.
        step_size: Of the ascent, as an L2 norm over the tokens of an example.
        magnitude: Of the first shift, uniform; 0 starts at the undisturbed embeddings.
        epsilon: Bound on the L2 norm of an example's shift.

    Source: Zhu et al. 2020, algorithm 1; the defaults are those of its RTE script for
        RoBERTa-large.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "RDrop": "each replaces the task's loss by a mean over passes of its own"
    }

    steps: int = Field(default=3, gt=0)
    step_size: float = Field(default=0.06, gt=0.0)
    magnitude: float = Field(default=0.16, ge=0.0)
    epsilon: float = Field(default=0.14, gt=0.0)

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Exchange the task's part of the loss."""
        learning = [p for p in state.model.parameters() if p.requires_grad]
        shift, mean = self._first(batch, state), torch.zeros_like(outputs.loss)
        sums: list[Tensor] = []
        for _ in range(self.steps):
            shift.requires_grad_()
            moved = another(batch, state, masks="shared", shift=shift).loss / self.steps
            ascent, *found = torch.autograd.grad(moved, [shift, *learning], allow_unused=True)
            gradients = [g for g in found if g is not None]
            sums = list(torch._foreach_add(sums, gradients)) if sums else gradients
            mean += moved.detach()
            shift = self._next(shift.detach(), ascent)
        used = [p for p, g in zip(learning, found, strict=True) if g is not None]
        adversarial: Tensor = _Known.apply(mean, sums, *used)  # type: ignore[no-untyped-call]
        return adversarial if loss is outputs.loss else loss - outputs.loss + adversarial

    def _first(self, batch: Mapping[str, Tensor], state: TrainState) -> Tensor:
        rng = state.device_rng("noise", "FreeLB", state.step)
        embeddings = embedded(batch, state)
        real = real_tokens(batch, embeddings)  # (batch, tokens, 1)
        size = real.sum((1, 2), keepdim=True) * embeddings.shape[-1]
        drawn = torch.empty_like(embeddings, dtype=torch.float32).uniform_(-1, 1, generator=rng)
        return drawn * real * self.magnitude / size.sqrt()

    def _next(self, shift: Tensor, ascent: Tensor) -> Tensor:
        """One step of fixed length uphill, then back into the ball."""
        shift = shift + self.step_size * ascent / _norm(ascent)
        return shift * (self.epsilon / _norm(shift)).clamp(max=1.0)


class _Known(torch.autograd.Function):
    """A value whose gradients are known already, so that no graph has to be kept for them."""

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
