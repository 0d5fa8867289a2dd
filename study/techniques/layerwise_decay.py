"""Layerwise learning-rate decay: smaller learning rates further below the head."""

from dataclasses import replace

from pydantic import Field

from study.techniques.base import Technique
from study.techniques.state import Group, TrainState


class LayerwiseDecay(Technique):
    """Shrink the learning rate by a constant factor per block below the head.

    lr(block) = recipe.lr * rate ** (head depth - depth); embeddings have depth 0. A generating
    decoder has no new head, so its top layer keeps the full rate.

    Attributes:
        rate: Factor per block, unitless, in (0, 1]; 1.0 changes nothing.

    Example:
        >>> from study import LayerwiseDecay
        >>> LayerwiseDecay(rate=0.9).label
        'LayerwiseDecay(0.9)'

    Source: Howard & Ruder 2018, discriminative fine-tuning; Zhang et al. 2021. Differs: the
        head keeps the full rate; the embeddings are one more block, below the first layer.
    """

    rate: float = Field(gt=0.0, le=1.0)

    def groups(self, groups: list[Group], state: TrainState) -> list[Group]:
        """Scale the learning rate of each group; its members and weight decay are unchanged."""
        top = max(group.depth for group in groups)  # the head, if the task has a new one
        return [replace(g, lr=g.lr * self.rate ** (top - g.depth)) for g in groups]
