"""Task-driven child-tuning: only the weights that matter most to the task learn."""

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.state import Names, TrainState


class ChildTuningD(Technique):
    """Train only those weights of the layers that the task's gradients name.

    Before training, one pass over the training data sums each weight's squared gradient. The
    highest share p over all layers together learns; the others keep their bits to the end.
    Embeddings and head train fully.

    Attributes:
        p: Share of the layers' weights that learn, in (0, 1]; 1 changes nothing.

    Source: Xu et al. 2021, Child-Tuning-D; p is the middle of their grid. As in their code, what
        is squared is the mean gradient of a batch, which is cheaper than the Fisher information's
        single examples and ranks otherwise. Differs: dropout is off during that pass, so that the
        `noise` stream does not move the mask, and no gradient is clipped in it; their code lets
        weight decay shrink the weights that do not learn.
    """

    clashes = {
        "LoRA": "half of its new weights have no gradient yet when the weights are chosen",
        "ReinitTop": "most of the weights drawn anew would never be trained",
    }

    p: float = Field(default=0.2, gt=0.0, le=1.0)

    def prepare(self, state: TrainState) -> None:
        """Find out which weights learn."""
        state.fixed["ChildTuningD"] = {}
        names = tuple(n for n in state.trainable if 0 < state.depths.of(n) < state.depths.head)
        if self.p == 1.0 or not names:
            return
        squares = _squared_gradients(names, state)
        # On the CPU: a GPU's kthvalue does not promise to be deterministic.
        ranked = torch.cat([s.flatten().cpu() for s in squares])
        rest = ranked.numel() - round(self.p * ranked.numel())
        bound = ranked.kthvalue(rest).values.item() if rest else -1.0
        for name, square in zip(names, squares, strict=True):
            weight = state.model.get_parameter(name).detach().clone()
            state.fixed["ChildTuningD"][name] = square > bound, weight

    @torch.no_grad()
    def after_backward(self, state: TrainState) -> None:
        """Mask gradients, which are clipped before, as in the published code."""
        for name, (learns, _) in state.fixed["ChildTuningD"].items():
            gradient = state.model.get_parameter(name).grad
            if gradient is not None:
                gradient.mul_(learns)

    @torch.no_grad()
    def after_step(self, state: TrainState) -> None:
        """Undo the weight decay of what does not learn."""
        for name, (learns, start) in state.fixed["ChildTuningD"].items():
            weight = state.model.get_parameter(name)
            torch.where(learns, weight, start, out=weight)


def _squared_gradients(names: Names, state: TrainState) -> list[Tensor]:
    """Sum over the training batches of the squared gradient, per parameter, in its shape."""
    weights = [state.model.get_parameter(name) for name in names]
    squares = [torch.zeros_like(weight) for weight in weights]
    state.model.eval()
    for batch in state.batches():
        gradients = torch.autograd.grad(state.forward(batch).loss, weights, materialize_grads=True)
        torch._foreach_addcmul_(squares, gradients, gradients)
    return squares
