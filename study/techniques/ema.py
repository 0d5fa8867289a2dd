"""EMA: evaluate an exponential moving average of the weights."""

import torch
from pydantic import Field
from torch import Tensor

from study.techniques.base import Technique
from study.techniques.state import TrainState


class EMA(Technique):
    """Evaluate an exponential moving average of the weights instead of the last ones.

    After step t the average is sum_i beta^(t-i) (1 - beta) theta_i / (1 - beta^t), over the steps
    i = 1 to t: the pretrained weights are not part of it, as in Adam's bias correction. Training
    itself is unchanged. Averages are float32, as the weights are. With `LoRA` the two factors are
    averaged, not their product.

    Attributes:
        beta: Decay per step; 0 changes nothing. None is 1 - 10 / (steps of the run), so that the
            average spans about its last tenth.

    Example:
        >>> from study import EMA, LoRA
        >>> (EMA(beta=0.99) + LoRA(rank=4)).label
        'LoRA(4) + EMA(0.99)'

    Source: Polyak & Juditsky 1992 for averaging; the correction is that of Kingma & Ba 2015. Fixed
        betas of 0.99 to 0.9999 suit longer runs than most fine-tuning, hence the default.
    """

    beta: float | None = Field(default=None, ge=0.0, lt=1.0)

    def prepare(self, state: TrainState) -> None:
        """Average every parameter that is ever trained; a frozen one equals its average."""
        named = state.model.named_parameters()
        state.memo["EMA"] = {name: p.detach().clone() for name, p in named if p.requires_grad}

    @torch.no_grad()
    def after_step(self, state: TrainState) -> None:
        """Move the average towards the weights; the first step replaces it."""
        averages: dict[str, Tensor] = state.memo["EMA"]
        weights: list[Tensor] = [state.model.get_parameter(name) for name in averages]
        beta = max(0.0, 1 - 10 / state.steps) if self.beta is None else self.beta
        share = (1 - beta) / (1 - beta**state.step)  # folds the correction into the update
        torch._foreach_lerp_(list(averages.values()), weights, share)

    def evaluated(self, weights: dict[str, Tensor], state: TrainState) -> dict[str, Tensor]:
        """The averages."""
        return {**weights, **state.memo["EMA"]}
