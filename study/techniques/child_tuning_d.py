"""Task-driven child-tuning: train only the weights that matter most to the task."""

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.state import Names, TrainState


class ChildTuningD(Technique):
    """Train only those weights of the layers that have the largest squared gradients on the task.

    Before training, one pass over the training data sums each weight's squared gradients. The
    highest share p over all layers together is trained; the others stay bit-identical. Embeddings
    and head are trained fully.

    Attributes:
        p: Share of the layers' weights that are trained, in (0, 1]; 1 changes nothing.

    Example:
        >>> from study import ChildTuningD
        >>> ChildTuningD(p=0.1).label
        'ChildTuningD(0.1)'

    Source: Xu et al. 2021, Child-Tuning-D; p is the middle of their grid. As in their code, what
        is squared is the mean gradient of a batch, which is cheaper than the gradients of single
        examples in the Fisher information and ranks differently. Differs: dropout is off during
        that pass, so that the `noise` stream does not affect the mask, and gradients are not
        clipped in it; their code lets weight decay shrink the untrained weights.
    """

    clashes = {
        "LoRA": "half of its new weights have no gradient yet when the mask is computed",
        "ReinitTop": "most of the re-initialised weights would never be trained",
    }

    p: float = Field(default=0.2, gt=0.0, le=1.0)

    def prepare(self, state: TrainState) -> None:
        """Compute the mask of trained weights."""
        state.fixed["ChildTuningD"] = {}
        names = tuple(n for n in state.trainable if 0 < state.depths.of(n) < state.depths.head)
        if self.p == 1.0 or not names:
            return
        squares = _squared_gradients(names, state)
        # On the CPU, because `kthvalue` on a GPU is not guaranteed to be deterministic.
        ranked = torch.cat([s.flatten().cpu() for s in squares])
        rest = ranked.numel() - round(self.p * ranked.numel())
        bound = ranked.kthvalue(rest).values.item() if rest else -1.0
        for name, square in zip(names, squares, strict=True):
            weight = state.model.get_parameter(name).detach().clone()
            state.fixed["ChildTuningD"][name] = square > bound, weight

    @torch.no_grad()
    def after_backward(self, state: TrainState) -> None:
        """Mask the gradients, after clipping as in the published code."""
        for name, (mask, _) in state.fixed["ChildTuningD"].items():
            gradient = state.model.get_parameter(name).grad
            if gradient is not None:
                gradient.mul_(mask)

    @torch.no_grad()
    def after_step(self, state: TrainState) -> None:
        """Undo the weight decay of untrained weights."""
        for name, (mask, start) in state.fixed["ChildTuningD"].items():
            weight = state.model.get_parameter(name)
            torch.where(mask, weight, start, out=weight)


def _squared_gradients(names: Names, state: TrainState) -> list[Tensor]:
    """Sum over the training batches of the squared gradient, per parameter, in its shape."""
    weights = [state.model.get_parameter(name) for name in names]
    squares = [torch.zeros_like(weight) for weight in weights]
    state.model.eval()
    for batch in state.batches():
        gradients = torch.autograd.grad(state.forward(batch).loss, weights, materialize_grads=True)
        torch._foreach_addcmul_(squares, gradients, gradients)
    return squares
