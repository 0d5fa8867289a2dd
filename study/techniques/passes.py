"""Helpers for the forward passes of techniques: extra passes, noise, masks, hidden states."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from study.techniques.state import TrainState

Masks = Literal["fresh", "shared"]
Noise = Literal["uniform", "normal"]


def extra_forward(
    batch: Mapping[str, Tensor],
    state: TrainState,
    *,
    masks: Masks,
    shift: Tensor | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Any:
    """Run one more forward pass.

    Args:
        batch: The model's inputs.
        state: The run.
        masks: Whether dropout and other noise of a pass is that of the step's first pass (`shared`)
            or drawn anew (`fresh`).
        shift: Added to the input embeddings, in float32 under every precision; its shape is that of
            `input_embeddings`. In bfloat16 the sum is exact, but the first matrix product rounds
            its inputs, and the effect of a shift below that rounding is noise.
        weights: Parameters, by name, that replace the model's own.

    Returns:
        The model's outputs.
    """
    hook = nullcontext() if shift is None else _shifted_embeddings(shift, state)
    with hook, state.replayed_rng() if masks == "shared" else nullcontext():
        return state.forward(batch, weights=weights)


def input_embeddings(batch: Mapping[str, Tensor], state: TrainState) -> Tensor:
    """The input embeddings of a batch, of tokens or image patches, without a graph.

    Returns:
        Shape (batch, tokens, dim), before positions are added.
    """
    model: Any = state.model
    with torch.no_grad():
        embeddings: Tensor = _embeddings(state)(batch[model.main_input_name])
    return embeddings


def token_mask(batch: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
    """1 for tokens and 0 for padding, shape (batch, tokens, 1); images have no padding.

    Args:
        batch: Has an `attention_mask` where it is padded.
        hidden: Shape (batch, tokens, dim).
    """
    if (mask := batch.get("attention_mask")) is None:
        return torch.ones_like(hidden[..., :1])
    return mask[..., None].to(hidden.dtype)


def symmetric_divergence(p: Any, q: Any, batch: Mapping[str, Tensor], state: TrainState) -> Tensor:
    """KL(p || q) + KL(q || p), mean over examples, in nats; for values twice the squared error."""
    divergence = state.kind.divergence
    return divergence(p, q, batch) + divergence(q, p, batch)


def noise_like(tensor: Tensor, scale: float, noise: Noise, rng: torch.Generator) -> Tensor:
    """Float32 noise in the shape of a tensor.

    Args:
        tensor: Gives shape and device.
        scale: Largest absolute value of uniform noise, standard deviation of normal noise.
        noise: Its distribution, with mean 0.
        rng: On the tensor's device.
    """
    drawn = torch.empty_like(tensor, dtype=torch.float32)
    if noise == "normal":
        return drawn.normal_(0.0, scale, generator=rng)
    return drawn.uniform_(-scale, scale, generator=rng)


def return_hidden_states(model: nn.Module, *, enabled: bool) -> None:
    """Set whether the model's outputs have `hidden_states`.

    A technique that reads them enables this in `prepare` and disables it in `merge`, so that an
    exported model returns no more than others do.
    """
    model.config.output_hidden_states = enabled  # type: ignore[union-attr]


@contextmanager
def _shifted_embeddings(shift: Tensor, state: TrainState) -> Iterator[None]:
    def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.float() + shift

    handle = _embeddings(state).register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def _embeddings(state: TrainState) -> nn.Module:
    model: Any = state.model
    module: nn.Module = model.get_input_embeddings()
    return module
