"""BAdam: block coordinate descent, with Adam on one layer at a time."""

from collections.abc import Collection
from typing import ClassVar

import torch
from pydantic import Field

from study.models.families import Depths, lies_under
from study.techniques.base import Technique
from study.techniques.state import Names, TrainState


class BAdam(Technique):
    """Train one layer at a time beside the head: all in turn, in an order that is drawn anew.

    A round visits every layer once, for `interval` steps each. A layer begins its turn without
    moments, and the optimizer holds only those of the layer in training and of the head. The
    embeddings stay as pretrained, and so does the head of a generating decoder.

    Attributes:
        interval: Optimizer steps per layer, the paper's K. A run of fewer than `interval` times
            the number of layers leaves some untrained.

    Example:
        >>> from study import BAdam
        >>> BAdam(interval=50).label
        'BAdam(50)'

    Source: Luo et al. 2024, algorithm 1, with their interval, order and blocks. The head trains
        throughout, as they advise where it is randomly initialised; they suggest an interval of
        steps per epoch / layers, but at least 50.
    """

    drops_moments: ClassVar[bool] = True
    clashes = dict.fromkeys(
        ("GradualUnfreezing", "InterLayerScheduling"), "each chooses which weights a step trains"
    )

    interval: int = Field(default=100, gt=0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The model must have several layers."""
        return None if depths.layers > 1 else "it has one layer, so there is nothing to alternate"

    def frozen(self, depths: Depths) -> Collection[int]:
        """The embeddings."""
        return (0,)

    def prepare(self, state: TrainState) -> None:
        """Freeze the embeddings, and a pretrained head."""
        kept = state.depths.kept_head
        state.freeze(n for n in state.trainable if state.depths.of(n) == 0 or lies_under(n, kept))

    def active(self, names: Names, state: TrainState) -> Names:
        """The parameters of the head and of the layer whose turn it is.

        Layers that another technique freezes have no turn.
        """
        head = state.depths.head
        layers = sorted({state.depths.of(name) for name in names} - {0, head})
        round_, place = divmod(state.step // self.interval, max(1, len(layers)))
        rng = state.rng("noise", "BAdam", round_)
        order = [layers[index] for index in torch.randperm(len(layers), generator=rng).tolist()]
        trained = {head, *order[place : place + 1]}
        return tuple(name for name in names if state.depths.of(name) in trained)
