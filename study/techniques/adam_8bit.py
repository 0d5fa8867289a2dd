"""Adam with its moments in 8 bits."""

import logging
import sys
from types import ModuleType

import torch

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
        optimizer: torch.optim.Optimizer = _bitsandbytes().optim.AdamW8bit(
            [state.parameters(group) for group in groups],
            betas=state.recipe.betas,
            eps=state.recipe.eps,
        )
        return optimizer


def _bitsandbytes() -> ModuleType:
    """The library, which takes seconds to load, and must not load code from a hub meanwhile.

    Where the package `kernels` is installed it would fetch a matrix product that nobody needs here.
    """
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says that it could not
    kernels = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import bitsandbytes
    finally:
        logger.setLevel(level)
        del sys.modules["kernels"]
        if kernels:
            sys.modules["kernels"] = kernels
    library: ModuleType = bitsandbytes
    return library
