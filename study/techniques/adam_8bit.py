"""Adam with its moments in 8 bits."""

import torch

from study.core.libraries import bitsandbytes
from study.techniques.base import Technique
from study.techniques.state import Group, TrainState


class Adam8bit(Technique):
    """Keep both of Adam's moments as 8-bit codes: a quarter of the memory of optimizer states.

    Blocks of 256 values share a scale, and the codes are denser near zero. Weights with fewer than
    4,096 values keep moments of 32 bits. The update is AdamW's otherwise.

    Example:
        >>> from study import Adam8bit
        >>> Adam8bit().label
        'Adam8bit'

    Source: Dettmers et al. 2022, in their library, bitsandbytes. Differs: embeddings have 8-bit
        moments like all other weights, where the paper keeps 32 bits for new ones.
    """

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer:
        """AdamW of bitsandbytes."""
        optimizer: torch.optim.Optimizer = bitsandbytes().optim.AdamW8bit(
            [state.parameters(group) for group in groups],
            betas=state.recipe.betas,
            eps=state.recipe.eps,
        )
        return optimizer
