"""Gradual unfreezing: train the head first, then unfreeze layers from the top down."""

import math

from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import Names, TrainState


class GradualUnfreezing(Technique):
    """Train the head alone at first, then unfreeze the layers below one by one, at equal intervals.

    A generating decoder has no new head and begins with its top layer. Dropout of frozen layers
    stays on. Adam's moments of a layer start when it is unfrozen, with a
    bias correction that counts from there.

    Attributes:
        share: Share of all steps after which everything is trained; 0 changes nothing.

    Example:
        >>> from study import GradualUnfreezing
        >>> GradualUnfreezing(share=0.5).label
        'GradualUnfreezing(0.5)'

    Source: Howard & Ruder 2018, section 3.3. Differs: they unfreeze a layer per epoch, which
        with few epochs leaves no time for the lowest ones; here all are unfrozen after a third of
        the steps (chosen here). Their discriminative rates are `LayerwiseDecay`.
    """

    share: float = Field(default=1 / 3, ge=0.0, le=1.0)

    def active(self, names: Names, state: TrainState) -> Names:
        """The parameters unfrozen by now; the embeddings come last."""
        end, top = self.share * state.steps, max(map(state.depths.of, names))
        if state.step >= end:
            return names
        unfrozen = math.floor(state.step * top / end)  # of the `top` blocks below the highest
        return tuple(n for n in names if state.depths.of(n) >= top - unfrozen)
