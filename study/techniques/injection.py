"""Modules of the `peft` library: put into a model, drawn, and merged back."""

import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from study.core.libraries import bitsandbytes
from study.models.families import in_layers
from study.techniques.state import TrainState


def target_maps(state: TrainState, targets: str) -> list[str]:
    """Names of the query and value projections (`query_value`), or of all linear maps in layers."""
    model, depths = state.model, state.depths
    if targets == "query_value":
        return in_layers(model, depths, depths.family.query_value)
    maps = in_layers(model, depths, ["*"])
    return [name for name in maps if isinstance(model.get_submodule(name), nn.Linear)]


def inject(state: TrainState, config: str, arguments: dict[str, Any]) -> None:
    """Insert the modules of a configuration class of `peft`; they and the head are trained."""
    with suppress(ImportError):  # peft loads it where it is installed
        bitsandbytes()
    import peft  # here, because it takes seconds

    head = {n for n in state.trainable if state.depths.of(n) == state.depths.head}
    # Names stay; what is new is drawn, and the head is frozen.
    peft.inject_adapter_in_model(getattr(peft, config)(**arguments), state.model)
    for name, parameter in state.model.named_parameters():
        if name in head:
            parameter.requires_grad_()


def drawn_uniformly(parameter: Tensor, rng: torch.Generator) -> Tensor:
    """New values for a matrix, within one over the root of its number of columns."""
    bound = 1 / math.sqrt(parameter.shape[1])
    return torch.rand(parameter.shape, generator=rng) * 2 * bound - bound


@torch.no_grad()
def merge_injected(model: nn.Module) -> None:
    """Merge each update into its weight and put the plain module back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
