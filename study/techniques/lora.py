"""LoRA: trainable low-rank updates of frozen weights."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from study.techniques.base import Technique
from study.techniques.injection import drawn_uniformly, inject, merge_injected, target_maps
from study.techniques.state import TrainState


class LoRA(Technique):
    """Freeze the encoder and train low-rank updates of its attention; the head is trained as usual.

    W x becomes W x + scale * B A dropout(x). B starts at zero, so training starts at the pretrained
    model. An exported model has scale * B A merged into W and is a plain one again.

    Attributes:
        rank: Rows of A, columns of B.
        scale: Factor of the update; alpha / rank in the paper.
        dropout: Probability of dropping an input of A.
        targets: The query and value projections, or every linear map of the layers.

    Example:
        >>> from study import LoRA
        >>> LoRA(rank=4, targets="linear").label
        'LoRA(rank=4, targets=linear)'

    Source: Hu et al. 2022, section 4: rank 8 on queries and values. Differs: alpha is twice the
        rank and the dropout 0.1 (chosen here); A is drawn uniformly, as in their code. Where one
        map computes queries, keys and values (ModernBERT), its update covers the keys too.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "Adapters": "each freezes what the other inserts",
        "ReinitTop": "the re-initialised matrices would never be trained themselves",
    }

    acts_as_dropout: ClassVar[bool] = True

    rank: int = Field(default=8, gt=0)
    scale: float = Field(default=2.0, gt=0.0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    targets: Literal["query_value", "linear"] = "query_value"

    def prepare(self, state: TrainState) -> None:
        """Insert the updates into the target modules; they and the head are trained."""
        arguments = {
            "r": self.rank,
            "lora_alpha": self.scale * self.rank,
            "lora_dropout": self.dropout,
            "target_modules": target_maps(state, self.targets),
        }
        inject(state, "LoraConfig", arguments)
        for name, parameter in state.model.named_parameters():
            if ".lora_A." in name:
                rng = state.rng("head", "LoRA", name)
                parameter.data.copy_(drawn_uniformly(parameter, rng))

    def merge(self, model: nn.Module) -> None:
        """Add each update to its weight and put the plain module back."""
        merge_injected(model)
