"""Adafactor: second moments of matrices as a row and a column, and no first moments."""

import torch
from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import Group, TrainState


class Adafactor(Technique):
    """Store the second moments of a matrix as a row and a column, and no first moments.

    An update is the gradient divided by the root of the second moments, clipped to a root mean
    square of `threshold`, and scaled by the learning rate times the root mean square of the weights
    (at least 1e-3). So learning rates are relative: 1e-3 to 1e-2 is usual.

    Attributes:
        threshold: Largest root mean square of an update before it is scaled, the paper's d.
        decay: Exponent by which the averages get longer: beta2 = 1 - step ** decay.

    Example:
        >>> from study import Adafactor
        >>> Adafactor().label
        'Adafactor'

    Source: Shazeer & Stern 2018, algorithms 4 and 5 with their constants, as torch implements them:
        the learning rate is at most 1 / sqrt(step). Weight decay is decoupled.
    """

    threshold: float = Field(default=1.0, gt=0.0)
    decay: float = Field(default=-0.8, lt=0.0)

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer:
        """Torch's Adafactor."""
        return torch.optim.Adafactor(
            [state.parameters(group) for group in groups],
            beta2_decay=self.decay,
            d=self.threshold,
        )
