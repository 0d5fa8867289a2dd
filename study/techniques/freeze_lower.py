"""Freezing the embeddings and the lower layers."""

from pydantic import Field

from study.models.families import Depths
from study.techniques.base import Technique
from study.techniques.state import TrainState


class FreezeLower(Technique):
    """Freeze the embeddings and the lowest layers.

    Dropout inside frozen layers stays on, so that nothing else differs from the baseline.

    Attributes:
        layers: Number of layers to freeze, from the bottom; 0 freezes the embeddings alone.

    Example:
        >>> from study import FreezeLower
        >>> FreezeLower(layers=6).label
        'FreezeLower(6)'

    Source: Lee et al. 2019; Tinn et al. 2023, who find it helps BERT-base models.
    """

    layers: int = Field(ge=0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """Some layer must remain to be trained, and layers must not share weights."""
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
