"""Re-initialising the top layers and the pooler."""

from pydantic import Field

from study.models.families import Depths
from study.models.loading import initialise
from study.tasks.kinds import KINDS
from study.techniques.base import Technique
from study.techniques.state import TrainState

WITHOUT_POOLER = ("tagging", "span")  # in every family their models have no pooler


class ReinitTop(Technique):
    """Re-initialise the highest layers and the pooler before training.

    Attributes:
        layers: Number of layers, from the top; 0 re-initialises the pooler alone.

    Example:
        >>> from study import ReinitTop
        >>> ReinitTop(layers=2).label
        'ReinitTop(2)'

    Source: Zhang et al. 2021, re-init; Tinn et al. 2023, who find it best for small
        text-similarity tasks.
    """

    layers: int = Field(ge=0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The model must have that many layers with weights of their own, or a pooler.

        A pretrained head reads what the pretrained layers write.
        """
        if KINDS[kind].pretrained_head:
            return "its head is that of pretraining and cannot read what new layers write"
        pooler = depths.family.head and kind not in WITHOUT_POOLER
        if self.layers == 0 and not pooler:
            return "layers=0 re-initialises the pooler alone, and it has none"
        if depths.family.shared_layers and self.layers > 0:
            return "its layers share one set of weights; only layers=0 can be re-initialised"
        if self.layers > depths.layers:
            return f"layers={self.layers} is more than its {depths.layers} layers"
        return None

    def redrawn(self, depths: Depths) -> range:
        """The top layers, and the pooler, whose depth is that of the head."""
        return range(depths.head - self.layers, depths.head + 1)

    def weights(self, state: TrainState) -> None:
        """Draw normal matrices, zero biases and unit norms, from the `head` stream."""
        drawn = self.redrawn(state.depths)
        body = state.depths.family.body + "."
        names = [
            name
            for name, _ in state.model.named_parameters()
            if name.startswith(body) and state.depths.of(name) in drawn
        ]
        initialise(state.model, names, state.seed, type(self).__name__)
