"""Whether the weights that a technique freezes are still the checkpoint's, bit for bit."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from study.models.loading import Loaded
from study.techniques.state import TrainState


class FrozenBase(NamedTuple):
    """The pretrained weights of a run that trains none of them.

    Attributes:
        sha256: SHA-256 of their names and values after training, 64 hex digits.
        unchanged: Whether they are equal to the checkpoint's, bit for bit.
    """

    sha256: str
    unchanged: bool


def frozen_base(state: TrainState, loaded: Loaded, trained: set[str]) -> FrozenBase | None:
    """The pretrained weights after training, if a run trains none of them.

    Args:
        state: The model with the weights that count.
        loaded: The pretrained model.
        trained: Names of the parameters that any phase trains.

    Returns:
        None where a pretrained weight is trained. The head of a task does not count, nor what
        begins anew in every run.
    """
    start = {n: p for n, p in loaded.pretrained.items() if state.depths.of(n) < state.depths.head}
    # An inserted module has the one that it replaces inside.
    own = {n.replace(".base_layer.", "."): (n, p) for n, p in state.model.named_parameters()}
    base = {name: own[name] for name in start if name in own}
    if len(base) < len(start) or any(name in trained for name, _ in base.values()):
        return None
    now = {name: parameter.detach().cpu() for name, (_, parameter) in base.items()}
    same = all(torch.equal(now[name], kept) for name, kept in start.items())
    return FrozenBase(_sha256(now), same)


def _sha256(weights: dict[str, Tensor]) -> str:
    hashed = hashlib.sha256()
    for name in sorted(weights):
        hashed.update(name.encode())
        hashed.update(weights[name].reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()
