"""Further forward passes within a step, for techniques that compare a model with itself."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from study.techniques.state import TrainState

Masks = Literal["fresh", "shared"]


def another(
    batch: Mapping[str, Tensor],
    state: TrainState,
    *,
    masks: Masks,
    shift: Tensor | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Any:
    """One more forward pass.

    Args:
        batch: The model's inputs.
        state: The run.
        masks: Whether dropout, and what else every pass draws, is that of the step's first pass,
            or drawn anew.
        shift: Added to the input embeddings in float32 under every precision; shape as `embedded`.
            In bfloat16 the sum is exact, but the first matrix product rounds its inputs, and what
            comes out of a shift smaller than that is rounding.
        weights: Parameters, by name, that stand in for the model's own.

    Returns:
        The model's outputs.
    """
    hook = nullcontext() if shift is None else _added(shift, state)
    with hook, state.replayed_rng() if masks == "shared" else nullcontext():
        return state.forward(batch, weights=weights)


def embedded(batch: Mapping[str, Tensor], state: TrainState) -> Tensor:
    """The input embeddings of a batch without a graph: of its tokens, or of its image patches.

    Returns:
        Shape (batch, tokens, dim), before positions are added.
    """
    model: Any = state.model
    with torch.no_grad():
        embeddings: Tensor = _embeddings(state)(batch[model.main_input_name])
    return embeddings


def real_tokens(batch: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
    """1 for tokens and 0 for padding, shape (batch, tokens, 1); images have no padding.

    Args:
        batch: Has an `attention_mask` where it is padded.
        hidden: Shape (batch, tokens, dim).
    """
    if (mask := batch.get("attention_mask")) is None:
        return torch.ones_like(hidden[..., :1])
    return mask[..., None].to(hidden.dtype)


def symmetric(p: Any, q: Any, batch: Mapping[str, Tensor], state: TrainState) -> Tensor:
    """KL(p || q) + KL(q || p), mean over examples, in nats; for values twice the squared error."""
    divergence = state.kind.divergence
    return divergence(p, q, batch) + divergence(q, p, batch)


@contextmanager
def _added(shift: Tensor, state: TrainState) -> Iterator[None]:
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
