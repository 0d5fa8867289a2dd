"""LoRA: trainable low-rank updates of frozen weights."""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from study.core.libraries import bitsandbytes
from study.models.families import in_layers
from study.techniques.base import Technique
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
        with suppress(ImportError):  # peft loads it where it is installed
            bitsandbytes()
        from peft import LoraConfig, inject_adapter_in_model  # here, because it takes seconds

        head = {n for n in state.trainable if state.depths.of(n) == state.depths.head}
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.scale * self.rank,
            lora_dropout=self.dropout,
            target_modules=self._targets(state),
        )
        inject_adapter_in_model(config, state.model)  # keeps names, freezes the head, draws A
        for name, parameter in state.model.named_parameters():
            if name in head:
                parameter.requires_grad_()
            if ".lora_A." in name:
                bound = 1 / math.sqrt(parameter.shape[1])
                rng = state.rng("head", "LoRA", name)
                drawn = torch.rand(parameter.shape, generator=rng) * 2 * bound - bound
                parameter.data.copy_(drawn)

    def merge(self, model: nn.Module) -> None:
        """Add each update to its weight and put the plain module back."""
        from peft.tuners.lora import LoraLayer

        for name, module in list(model.named_modules()):
            if isinstance(module, LoraLayer):
                module.merge()
                model.set_submodule(name, module.get_base_layer())

    def _targets(self, state: TrainState) -> list[str]:
        if self.targets == "query_value":
            return in_layers(state.model, state.depths, state.depths.family.query_value)
        maps = in_layers(state.model, state.depths, ["*"])
        return [n for n in maps if isinstance(state.model.get_submodule(n), nn.Linear)]
