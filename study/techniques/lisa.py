"""LISA: train the embeddings, the head and a few random layers at a time."""

from typing import ClassVar

import torch
from pydantic import Field

from study.models.families import Depths, lies_under
from study.techniques.base import Technique
from study.techniques.state import Names, TrainState


class LISA(Technique):
    """Train the embeddings, the head and a few layers; after every interval draw other layers.

    Layers are drawn uniformly, without regard to the interval before. A layer that is no longer
    trained loses its moments, so that the optimizer never holds more than those of the layers in
    training, and starts afresh when it is drawn again.

    Attributes:
        layers: Layers trained at a time; the model must have more.
        interval: Optimizer steps between two draws.

    Example:
        >>> from study import LISA
        >>> LISA(interval=10).label
        'LISA(10)'

    Source: Pan et al. 2024, algorithm 1, with two layers as in their main setting; the interval is
        that of their published script. Whether moments survive differs between their
        implementations; here they are dropped, as their figures of memory suppose.
    """

    drops_moments: ClassVar[bool] = True
    clashes = dict.fromkeys(
        ("BAdam", "GradualUnfreezing", "InterLayerScheduling"),
        "each chooses which weights a step trains",
    )

    layers: int = Field(default=2, gt=0)
    interval: int = Field(default=20, gt=0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The model must have more layers."""
        if self.layers < depths.layers:
            return None
        own = "one layer" if depths.layers == 1 else f"{depths.layers} layers"
        return f"it has {own}, so all of them would train in every step"

    def active(self, names: Names, state: TrainState) -> Names:
        """The parameters of the embeddings, the head and the layers of this interval.

        Layers that another technique freezes are not drawn.
        """
        ends = {0, state.depths.head}
        layers = sorted({state.depths.of(name) for name in names} - ends)
        rng = state.rng("noise", "LISA", state.step // self.interval)
        drawn = torch.randperm(len(layers), generator=rng)[: self.layers].tolist()
        trained = ends | {layers[index] for index in drawn}
        kept = state.depths.kept_head  # a head too, though its depth is that of the top layer
        return tuple(n for n in names if state.depths.of(n) in trained or lies_under(n, kept))
