"""Prior decay: weight decay towards the start."""

import torch
from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import TrainState


class PriorDecay(Technique):
    """Pull the weights a little towards their start after every step.

    w -= lr * rate * (w - w0) for every matrix below the head, with the learning rate of the step;
    the head's matrices, and those that another technique inserted, are pulled to zero. Biases and
    norms are left alone.

    Attributes:
        rate: Share of the distance that is undone per unit of learning rate; 0 changes nothing.

    Source: Wiese et al. 2017, pretrained weight decay; the rate, the targets and the place after
        the step as in the code of Du & Nguyen 2023. Differs: ordinary weight decay stays as the
        recipe has it. The code of Zhang et al. 2021 sets it to zero, pulls before the step, and
        means to spare the head but pulls it to its random start.
    """

    rate: float = Field(default=0.01, ge=0.0)

    def prepare(self, state: TrainState) -> None:
        """Note where each matrix that may learn is pulled to."""

        def pretrained(name: str) -> bool:
            return name in state.start and state.depths.of(name) < state.depths.head

        state.fixed["PriorDecay"] = {
            name: state.start[name] if pretrained(name) else torch.zeros_like(weight)
            for name, weight in state.model.named_parameters()
            if weight.ndim > 1 and weight.requires_grad
        }

    @torch.no_grad()
    def after_step(self, state: TrainState) -> None:
        """Pull what has just learnt."""
        targets = state.fixed["PriorDecay"]
        pulled = [name for name in state.trainable if name in targets]
        torch._foreach_lerp_(
            [state.model.get_parameter(name) for name in pulled],
            [targets[name] for name in pulled],
            [state.rates[name] * self.rate for name in pulled],
        )
