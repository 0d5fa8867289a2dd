"""BitFit: train the biases and the head only."""

from collections.abc import Mapping
from typing import ClassVar

from study.models.families import Depths
from study.techniques.base import Technique
from study.techniques.state import TrainState


class BitFit(Technique):
    """Train the biases, including those of norms, and the task head; freeze everything else.

    It needs a learning rate about ten times higher than `Standard` does.

    Example:
        >>> from study import BitFit
        >>> BitFit().clashes["LoRA"]
        'each freezes what the other trains'

    Source: Ben Zaken et al. 2022, BitFit with all bias terms.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "LoRA": "each freezes what the other trains",
        "Adapters": "each freezes what the other trains",
        "ReinitTop": "the re-initialised matrices would never be trained",
    }

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The model must have biases."""
        return None if depths.family.biases else "its layers have no biases to train"

    def prepare(self, state: TrainState) -> None:
        """Freeze everything but biases and head."""
        state.freeze(
            name
            for name, _ in state.model.named_parameters()
            if name.rpartition(".")[2] != "bias" and state.depths.of(name) < state.depths.head
        )
