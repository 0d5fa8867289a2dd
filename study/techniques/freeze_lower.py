"""Freezing: the lower layers keep their pretrained weights."""

from pydantic import Field

from study.models.families import Depths
from study.techniques.base import Technique
from study.techniques.state import TrainState


class FreezeLower(Technique):
    """Do not train the embeddings and the lowest layers.

    Dropout inside frozen layers stays on, so that runs differ from the baseline in nothing else.

    Attributes:
        layers: Layers to freeze, from the bottom; 0 freezes the embeddings alone.

    Source: Lee et al. 2019; Tinn et al. 2023, who find it helps BERT-base models.
    """

    layers: int = Field(ge=0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The model must have layers left, and layers of their own."""
        if depths.family.shared_layers and self.layers > 0:
            return "its layers share one set of weights; only layers=0 can be frozen"
        if self.layers >= depths.layers:
            return f"layers={self.layers} leaves none of its {depths.layers} layers to train"
        return None

    def frozen(self, depths: Depths) -> range:
        """The embeddings have depth 0."""
        return range(self.layers + 1)

    def prepare(self, state: TrainState) -> None:
        """Freeze by depth."""
        names = [name for name, _ in state.model.named_parameters()]
        frozen = self.frozen(state.depths)
        state.freeze(name for name in names if state.depths.of(name) in frozen)
