"""Prior decay: decoupled weight decay towards the pretrained weights."""

import torch
from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import TrainState


class PriorDecay(Technique):
    """Decay the weights towards their pretrained values after every step.

    w -= lr * rate * (w - w0) for every matrix below the head, with the learning rate of the step.
    The head's matrices, and those that another technique inserted, decay to zero. Biases and norms
    do not decay.

    Attributes:
        rate: Share of the distance removed per unit of learning rate; 0 changes nothing.

    Example:
        >>> from study import PriorDecay
        >>> PriorDecay(rate=0.1).label
        'PriorDecay(0.1)'

    Source: Wiese et al. 2017, pretrained weight decay; the rate, the targets and the decay after
        the step as in the code of Du & Nguyen 2023. Differs: ordinary weight decay stays as the
        recipe has it. The code of Zhang et al. 2021 sets it to zero, decays before the step, and
        is meant to spare the head but pulls it to its random initial values.
    """

    rate: float = Field(default=0.01, ge=0.0)

    def prepare(self, state: TrainState) -> None:
        """Store the target of each trainable matrix."""

        def pretrained(name: str) -> bool:
            return name in state.start and state.depths.of(name) < state.depths.head

        state.fixed["PriorDecay"] = {
            name: state.start[name] if pretrained(name) else torch.zeros_like(weight)
            for name, weight in state.model.named_parameters()
            if weight.ndim > 1 and weight.requires_grad
        }

    @torch.no_grad()
    def after_step(self, state: TrainState) -> None:
        """Decay the matrices that were trained in this step."""
        targets = state.fixed["PriorDecay"]
        pulled = [name for name in state.trainable if name in targets]
        torch._foreach_lerp_(
            [state.model.get_parameter(name) for name in pulled],
            [targets[name] for name in pulled],
            [state.rates[name] * self.rate for name in pulled],
        )
