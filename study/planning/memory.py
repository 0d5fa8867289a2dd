"""What a training step will hold in memory, from the shapes of the model alone."""

import copy
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of, layers_of
from study.models.loading import meta_model, set_dropout
from study.models.model import Model
from study.tasks.kinds import KINDS, Kind
from study.techniques import Standard, Technique
from study.techniques.base import chooses_by_step
from study.techniques.compression import ByteDropout
from study.techniques.state import Phase, TrainState
from study.training.memory import MemorySplit
from study.training.savers import MemorySavers
from study.training.step import one_step, start_phase, with_all_states

STEPS = 100_000  # of the run, of which the first and another step are taken
TRIED = 100  # steps among which the other is the largest
_KNOWN: dict[Any, MemorySplit | None] = {}
STANDARD, PLAIN = Standard(), MemorySavers()
CPU = torch.device("cpu")  # of generators; tensors are on the meta device


def predicted_split(
    model: Model,
    kind: str,
    recipe: Recipe,
    technique: Technique = STANDARD,
    savers: MemorySavers = PLAIN,
    *,
    length: int,
    gpu: bool,
) -> MemorySplit | None:
    """What a step holds, without training anything.

    The step runs on torch's meta device, where tensors have shapes and no values, so the size of
    the model does not matter. Of a technique that draws what it trains, the draw that trains from
    the lowest layer counts, and of several the one with the most weights.

    Args:
        model: The checkpoint; only its configuration is read.
        kind: The kind of task.
        recipe: After the technique's `recipe` hook. Its batch size, dropout and precision count.
        technique: The technique.
        savers: How the run needs less memory.
        length: Tokens of the longest row; ignored for images.
        gpu: Whether masks of dropout take a byte an entry and attention is fused, as on GPUs; else
            masks are float32, and attention is fused only without dropout, as on CPUs.

    Returns:
        Bytes; None where they are not known: in bfloat16, whose casts depend on the device, and
        where an architecture (DeBERTa) or a technique computes with values on the way.

    Source: the meter of runs, `study.training.memory`, on the meta device.
    """
    if recipe.precision != "float32":
        return None
    # What can change bytes, so that other fields do not repeat a prediction.
    counts = ("epochs", "batch_size", "micro_batch_size", "dropout", "clip_norm")
    shapes = Recipe(**{name: getattr(recipe, name) for name in counts})
    named = json.dumps(technique.canonical(), sort_keys=True)
    key = (model, kind, shapes, named, savers, length, gpu)
    if key not in _KNOWN:
        _KNOWN[key] = _predicted(model, kind, shapes, technique, savers, length, gpu)
    return _KNOWN[key]


def _predicted(
    model: Model,
    kind: str,
    recipe: Recipe,
    technique: Technique,
    savers: MemorySavers,
    length: int,
    gpu: bool,
) -> MemorySplit | None:
    task = KINDS[kind](() if kind in ("regression", "span") else ("no", "yes"))
    network = _network(model, task, recipe.dropout)
    batch = _batch(network.config, task, recipe.batch_size, length)
    state = TrainState(
        network,
        recipe,
        Seed(0, 0, 0),
        depths_of(network),
        CPU,
        task,
        lambda: iter([dict(batch)]),
        gradient_checkpointing=savers.gradient_checkpointing,
    )
    splits: list[MemorySplit] = []
    try:
        technique.weights(state)
        technique.prepare(state)
        network.to("meta")  # what was inserted
        for layer in layers_of(network, state.depths.family):
            # By layer, since a layer that is computed again is so outside of the mode of the step.
            layer.forward = partial(_on_device, layer.forward, gpu)
        phases = technique.phases([Phase(recipe, state.trainable)], state)
        for state.phase, phase in enumerate(phases):
            splits.append(_of_phase(technique, state, phase, batch, savers, gpu=gpu))
    except Exception:  # values are asked of meta tensors, by a technique in whatever way
        return None
    return max(splits, key=sum)


def _of_phase(
    technique: Technique,
    state: TrainState,
    phase: Phase,
    batch: dict[str, Tensor],
    savers: MemorySavers,
    *,
    gpu: bool,
) -> MemorySplit:
    """The larger of the phase's first step and of one that trains as much as any.

    Raises:
        RuntimeError: If values are needed before a step is over.
    """
    state.step, state.steps = 0, STEPS
    state.model.train()  # as the loop does in every epoch
    optimizer, _ = start_phase(technique, state, phase)
    optimizer.step = partial(_stepped, optimizer.step)  # type: ignore[method-assign, assignment]
    splits: list[MemorySplit] = []
    for number, step in enumerate((0, _largest_step(technique, phase, state)), start=1):
        state.step = step
        try:
            with DeviceKernels(gpu):
                one_step(
                    technique,
                    state,
                    phase,
                    optimizer,
                    batch,
                    splits.append,
                    in_backward=savers.step_in_backward,
                )
        except Exception:
            if len(splits) < number:  # else only what follows the step needs values
                raise
    split = max(splits, key=sum)
    return with_all_states(split, technique, optimizer)


def _on_device(forward: Callable[..., Any], gpu: bool, *args: Any, **named: Any) -> Any:
    with DeviceKernels(gpu):
        return forward(*args, **named)


def _largest_step(technique: Technique, phase: Phase, state: TrainState) -> int:
    """Of many steps of the run one that trains from the lowest layer, and then the most weights."""
    if not chooses_by_step(technique):
        return STEPS - 1
    sizes = {name: state.model.get_parameter(name).numel() for name in phase.names}

    def reach(step: int) -> tuple[int, int]:
        state.step = step
        names = technique.active(phase.names, state)
        lowest = min((state.depths.of(name) for name in names), default=0)
        return -lowest, sum(sizes[name] for name in names)

    return max(range(STEPS - 1, 0, -(STEPS // TRIED)), key=reach)


def _stepped(step: Callable[[], Any]) -> None:
    with _AnyValue():
        step()


class _AnyValue(TorchFunctionMode):
    """Numbers that an optimizer reads decide by how much it moves weights, and no shape."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        return 1.0 if function is Tensor.item else function(*args, **(kwargs or {}))


def _network(model: Model, task: Kind, dropout: float | None) -> nn.Module:
    """The task model without values, in training mode."""
    import transformers  # takes seconds

    config = copy.deepcopy(meta_model(model, type(task)).config)
    config.problem_type = task.problem
    if not task.pretrained_head:
        config.num_labels = task.outputs
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0
    with torch.device("meta"):
        network: nn.Module = getattr(transformers, task.auto).from_config(config)
    if dropout is not None:
        set_dropout(network, dropout)
    return network.train()


def _batch(config: Any, task: Kind, rows: int, length: int) -> dict[str, Tensor]:
    """Rows with their targets."""
    whole = torch.long
    with torch.device("meta"):
        if size := getattr(config, "image_size", None):
            inputs = {"pixel_values": torch.empty(rows, config.num_channels, size, size)}
        else:
            inputs = {"input_ids": torch.empty(rows, length, dtype=whole)}
        match task.name:
            case "span":
                position = torch.empty(rows, dtype=whole)
                return {**inputs, "start_positions": position, "end_positions": position}
            case "regression":
                labels = torch.empty(rows)
            case "multilabel":
                labels = torch.empty(rows, task.outputs)
            case "tagging" | "generation":
                labels = torch.empty(rows, length, dtype=whole)
            case _:
                labels = torch.empty(rows, dtype=whole)
    return {**inputs, "labels": labels}


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
        if function is torch.equal:
            return False
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

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
