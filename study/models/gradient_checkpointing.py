"""Gradient checkpointing of a model's layers: less memory for one more forward pass, the same bits.

Torch's own checkpointing, for every architecture of `FAMILIES`, some of which `transformers` does
not support. It saves a layer's inputs instead of what its operations save, and the backward pass
computes those again, from the same state of every generator.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from study.models.families import Depths, layers_of

Context = AbstractContextManager[Any]
Forward = Callable[..., Any]

_probe: ContextVar[Callable[[], Context] | None] = ContextVar("probe", default=None)


@contextmanager
def probed(probe: Callable[[], Context]) -> Iterator[None]:
    """Within it, each layer that a backward pass recomputes is first computed inside `probe`.

    So a meter sees what recomputing a layer holds; hooks on saved tensors do not, since the
    innermost pair alone is called, and that is torch's. No value or generator changes.
    """
    token = _probe.set(probe)
    try:
        yield
    finally:
        _probe.reset(token)


@contextmanager
def checkpointed_layers(
    model: nn.Module, depths: Depths, generators: Collection[torch.Generator]
) -> Iterator[None]:
    """Within it, forward passes save only the inputs of each layer for their backward pass.

    Args:
        model: A task model.
        depths: Its depth map.
        generators: Those that layers draw from besides torch's global ones.
    """
    layers = layers_of(model, depths.family)
    own = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(_run, layer.forward, generators)
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            del layer.forward  # that of the class is visible again
            if forward is not None:
                layer.forward = forward


def _run(
    forward: Forward, generators: Collection[torch.Generator], *args: Any, **named: Any
) -> Any:
    if "past_key_values" in named:  # a cache that decoders fill: it would have each token twice
        named |= {"past_key_values": None, "use_cache": False}
    inputs = (*args, *named.values())

    def layer(*inputs: Any) -> Any:
        return forward(*inputs[: len(args)], **dict(zip(named, inputs[len(args) :], strict=True)))

    return checkpoint(
        layer,
        *inputs,  # all by position: torch saves those alone as tensors of the graph
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _recomputing(partial(layer, *inputs), generators)),
    )


def _recomputing(layer: Callable[[], Any], generators: Collection[torch.Generator]) -> Context:
    """What the backward pass recomputes a layer in; called in the forward pass."""
    states = [(generator, generator.get_state()) for generator in generators]
    probe = _probe.get()
    if probe is None:  # else the layer's inputs would be kept with their graph
        return _rewound(states) if states else nullcontext()

    @contextmanager
    def probing() -> Iterator[None]:
        devices = range(torch.cuda.device_count())
        with torch.random.fork_rng(devices), _rewound(states), probe():
            layer()
        with _rewound(states):
            yield

    return probing()


@contextmanager
def _rewound(states: Collection[tuple[torch.Generator, torch.Tensor]]) -> Iterator[None]:
    """Within it, generators are in an earlier state."""
    now = [(generator, generator.get_state()) for generator, _ in states]
    for generator, state in states:
        generator.set_state(state)
    try:
        yield
    finally:
        for generator, state in now:
            generator.set_state(state)
