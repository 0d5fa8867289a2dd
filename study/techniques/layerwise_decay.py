"""Layerwise learning-rate decay: the further below the head, the smaller the step."""

from dataclasses import replace

from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import Group, TrainState


class LayerwiseDecay(Technique):
    """Shrink the learning rate by a constant factor per block below the head.

    lr(block) = recipe.lr * rate ** (head depth - depth); embeddings have depth 0.

    Attributes:
        rate: Factor per block, unitless, in (0, 1]; 1.0 changes nothing.

    Source: Howard & Ruder 2018, discriminative fine-tuning; Zhang et al. 2021. Differs: the
        head keeps the full rate; the embeddings are one more block, below the first layer.
    """

    rate: float = Field(gt=0.0, le=1.0)

    def groups(self, groups: list[Group], state: TrainState) -> list[Group]:
        """Rescale each group; membership and weight decay stay as they were."""
        top = state.depths.head
        return [replace(g, lr=g.lr * self.rate ** (top - g.depth)) for g in groups]
