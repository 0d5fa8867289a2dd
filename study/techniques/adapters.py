"""Adapters: trainable bottlenecks inside frozen layers."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

from study.models.families import in_layers, in_norm
from study.techniques.base import Technique
from study.techniques.state import TrainState

STD = 1e-2  # of the initial matrices, truncated at two standard deviations


class Adapters(Technique):
    """Freeze the model and train a bottleneck after each attention and each feed-forward block.

    h becomes h + up(gelu(down(h))) after the last linear map of the block, before its residual
    connection. The adapters, all norms and the task head are trained. The initial matrices are
    small, so training starts near the pretrained model. Layers that share weights (ALBERT) share
    adapters.

    Attributes:
        bottleneck: Hidden width of the adapter.

    Example:
        >>> from study import Adapters
        >>> Adapters(bottleneck=16).label
        'Adapters(16)'

    Source: Houlsby et al. 2019, section 2.1; width 64 as in their fixed-size results. Differs: it
        acts before the block's dropout instead of after it, because not all families have one.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "ReinitTop": "the re-initialised matrices would never be trained",
    }
    no_export: ClassVar[str | None] = (
        "its adapters are not linear and cannot be merged into the weights of a plain model"
    )

    bottleneck: int = Field(default=64, gt=0)

    def prepare(self, state: TrainState) -> None:
        """Freeze the pretrained weights and insert adapters, drawn from the `head` stream."""
        state.freeze(
            name
            for name, _ in state.model.named_parameters()
            if state.depths.of(name) < state.depths.head and not in_norm(state.model, name)
        )
        for name in in_layers(state.model, state.depths, state.depths.family.block_ends):
            block_end = state.model.get_submodule(name)
            adapter = Bottleneck(block_end.out_features, self.bottleneck)  # type: ignore[arg-type]
            for matrix in ("down", "up"):
                adapter.draw(matrix, state.rng("head", "Adapters", name, matrix))
            block_end.add_module("adapter", adapter.to(state.device))
            block_end.register_forward_hook(_adapt)  # wrapping would rename its parameters


class Bottleneck(nn.Module):
    """h + up(gelu(down(h))) for h of shape (..., width)."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        # Without initial values: `draw` sets them, and nothing is drawn from the global generator.
        self.down = skip_init(nn.Linear, width, bottleneck)  # type: ignore[no-untyped-call]
        self.up = skip_init(nn.Linear, bottleneck, width)  # type: ignore[no-untyped-call]

    def draw(self, matrix: str, rng: torch.Generator) -> None:
        """Initialise a linear map: truncated normal weights, zero bias."""
        linear = self.get_submodule(matrix)
        limit = 2 * STD
        nn.init.trunc_normal_(
            linear.get_parameter("weight"), std=STD, a=-limit, b=limit, generator=rng
        )
        nn.init.zeros_(linear.get_parameter("bias"))

    def forward(self, hidden: Tensor) -> Tensor:
        """From shape (..., width) to the same shape."""
        update: Tensor = self.up(functional.gelu(self.down(hidden)))
        return hidden + update


def _adapt(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
    adapted: Tensor = module.get_submodule("adapter")(output)
    return adapted
