"""Gradual unfreezing: the head learns first, then one layer more at a time, downwards."""

import math

from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import Names, TrainState


class GradualUnfreezing(Technique):
    """Train the head alone at first, and thaw the layers below it one by one, at equal distances.

    What is frozen keeps its dropout. A thawed layer's Adam moments start with it, corrected for
    their own age.

    Attributes:
        share: Share of all steps after which everything trains; 0 changes nothing.

    Source: Howard & Ruder 2018, section 3.3. Differs: they thaw a layer per epoch, which in few
        epochs leaves the lowest ones no time; here all are thawed after a third of the steps
        (chosen here). Their discriminative rates are `LayerwiseDecay`.
    """

    share: float = Field(default=1 / 3, ge=0.0, le=1.0)

    def active(self, names: Names, state: TrainState) -> Names:
        """The parts thawed by now, the embeddings last."""
        last = self.share * state.steps
        if state.step >= last:
            return names
        below = math.floor(state.step * state.depths.head / last)  # of `head` parts under the head
        return tuple(n for n in names if state.depths.of(n) >= state.depths.head - below)
