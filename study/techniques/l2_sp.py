"""L2-SP: an L2 penalty on the distance to the starting point, as part of the loss."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from study.techniques.base import Technique
from study.techniques.state import TrainState


class L2SP(Technique):
    """Penalise the squared distance to the starting weights in the loss.

    loss + alpha / 2 * |w - w0|^2 + beta / 2 * |new|^2, over the parameters trained in the step; new
    are the head and what another technique inserted. The penalty's gradient is clipped with the
    task's and enters Adam's moments; `PriorDecay` is the decoupled form.

    Attributes:
        alpha: Strength below the head, towards the weights before training.
        beta: Strength for new parameters, towards zero, where LoRA updates and adapters do nothing.

    Example:
        >>> from study import L2SP
        >>> L2SP(alpha=0.1).label
        'L2SP(0.1)'

    Source: Li et al. 2018, L2-SP; both strengths as in the Transfer-Learning-Library (Jiang et al.
        2020). Differs: a pretrained pooler belongs to the head; ordinary weight decay stays on,
        so the head has both.
    """

    alpha: float = Field(default=0.01, ge=0.0)
    beta: float = Field(default=0.01, ge=0.0)

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Add both penalties."""
        # Read in the first step, also where a first phase trains the head alone.
        start = state.start
        penalties = []
        for name, weight in state.model.named_parameters():
            if not weight.requires_grad:
                continue
            if state.depths.of(name) == state.depths.head or name not in start:
                penalties.append(self.beta / 2 * weight.square().sum())
            else:  # mse_loss stores no difference for the backward pass
                distance = functional.mse_loss(weight, start[name], reduction="sum")
                penalties.append(self.alpha / 2 * distance)
        return loss + torch.stack(penalties).sum()
