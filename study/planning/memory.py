"""What a training step will hold in memory, from the shapes of the model alone."""

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from study.core.recipe import Recipe
from study.models.loading import meta_model, set_dropout
from study.models.model import Model
from study.tasks.kinds import KINDS
from study.techniques.compression import ByteDropout
from study.training.memory import MemorySplit, SavedActivations, bytes_of

MOMENTS = 2  # of Adam, per weight


@cache
def predicted_split(
    model: Model, kind: str, recipe: Recipe, *, length: int, gpu: bool
) -> MemorySplit | None:
    """What a step of training all weights with AdamW holds, without training anything.

    The forward pass runs on torch's meta device, where tensors have shapes and no values, so the
    size of the model does not matter.

    Args:
        model: The checkpoint; only its configuration is read.
        kind: The kind of task.
        recipe: Its batch size, dropout and precision count.
        length: Tokens of the longest row; ignored for images.
        gpu: Whether masks of dropout take a byte an entry and attention is fused, as on GPUs; else
            masks are float32, and attention is fused only without dropout, as on CPUs.

    Returns:
        Bytes; None where they are not known: in bfloat16, whose casts depend on the device, and
        for architectures that compute with values on the way (DeBERTa).

    Source: the meter of runs, `study.training.memory`, on the meta device.
    """
    if recipe.precision != "float32":
        return None
    network = copy.deepcopy(meta_model(model, KINDS[kind])).train()
    if recipe.dropout is not None:
        set_dropout(network, recipe.dropout)
    if getattr(network.config, "pad_token_id", None) is None:
        network.config.pad_token_id = 0
    weights = bytes_of([*network.parameters(), *network.buffers()])
    trained = bytes_of(network.parameters())
    batch = _batch(network.config, recipe.batch_size, length)
    meter = SavedActivations(network, batch)
    try:
        with meter.counting(), DeviceKernels(gpu):
            network(**batch)
    except (RuntimeError, NotImplementedError):  # `Tensor.item() cannot be called on meta tensors`
        return None
    return MemorySplit(weights, trained, MOMENTS * trained, meter.peak)


def _batch(config: Any, rows: int, length: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        if size := getattr(config, "image_size", None):
            return {"pixel_values": torch.empty(rows, config.num_channels, size, size)}
        return {"input_ids": torch.empty(rows, length, dtype=torch.long)}


class DeviceKernels(TorchFunctionMode):
    """Dropout and attention save what the kernels of a device save, which meta tensors do not."""

    def __init__(self, gpu: bool) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if function is functional.dropout and self._gpu:
            p = _probability(*args[1:], **kwargs)
            return ByteDropout.apply(args[0], p) if p else args[0]  # type: ignore[no-untyped-call]
        attention = function is functional.scaled_dot_product_attention
        if attention and (self._gpu or not kwargs.get("dropout_p")):
            return _FusedAttention.apply(*args[:3])  # type: ignore[no-untyped-call]
        return function(*args, **kwargs)


def _probability(p: float = 0.5, training: bool = True, inplace: bool = False) -> float:
    return p if training else 0.0


class _FusedAttention(torch.autograd.Function):
    """Attention that saves its operands, its output and one number per row and head."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums)
        return output
