"""One optimizer step: what it trains, its passes over the parts of a batch, its update."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from study.tasks.kinds import Kind
from study.techniques.base import Technique, chooses_by_step, drops_moments
from study.techniques.state import Group, Names, Phase, TrainState, plain_groups
from study.training.memory import (
    MemorySplit,
    SavedActivations,
    bytes_of,
    complete_state_bytes,
    measured_split,
)
from study.training.savers import step_in_backward


class Part(NamedTuple):
    """A part of a batch.

    Attributes:
        number: From 0.
        batch: Its rows.
        share: Its share of what the batch's loss is a mean over; None for a whole batch.
    """

    number: int
    batch: dict[str, Tensor]
    share: float | None


def start_phase(
    technique: Technique, state: TrainState, phase: Phase
) -> tuple[torch.optim.Optimizer, list[Group]]:
    """Make a phase the current one, at its peak rates; returns its optimizer and its groups."""
    state.recipe = phase.recipe
    set_trainable(state, phase.names)
    groups: list[Group] = technique.groups(plain_groups(state), state)
    grouped = [name for group in groups for name in group.names]
    for name in state.trainable:
        if grouped.count(name) != 1:
            where = "no group" if name not in grouped else "several groups"
            raise ValueError(
                f"{name!r} is in {where}; groups() must name every parameter trainable in this "
                "phase exactly once"
            )
    optimizer = technique.optimizer(groups, state) or torch.optim.AdamW(
        [state.parameters(group) for group in groups],
        betas=state.recipe.betas,
        eps=state.recipe.eps,
        fused=not next(state.model.parameters()).is_meta,
    )
    state.rates = {name: group.lr for group in groups for name in group.names}
    return optimizer, groups


def with_all_states(
    split: MemorySplit, technique: Technique, optimizer: torch.optim.Optimizer
) -> MemorySplit:
    """The split of a step once each weight of the phase has been updated, which is done for it."""
    if drops_moments(technique):
        return split
    return split._replace(optimizer=complete_state_bytes(optimizer))


def one_step(
    technique: Technique,
    state: TrainState,
    phase: Phase,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    measure: Callable[[MemorySplit], None] | None = None,
    *,
    in_backward: bool = False,
) -> tuple[Tensor, Tensor]:
    """One optimizer step.

    Args:
        technique: Its hooks are called.
        state: The run.
        phase: The current one.
        optimizer: Of this phase.
        batch: On the device.
        measure: Called with what the step held in memory; None measures nothing. It moves no bit.
        in_backward: Whether the backward pass updates the weights, see `MemorySavers`.

    Returns:
        The minimised loss and the task's own, detached.
    """
    state.part = 0
    state.reseed()  # noise depends on the seed and the step alone, so a resumed run repeats it
    if chooses_by_step(technique):
        set_trainable(state, technique.active(phase.names, state))
        if drops_moments(technique):
            drop_states_of_frozen(optimizer)
    technique.before_step(state)
    meter = SavedActivations(state.model, batch) if measure else None
    with (
        meter.counting() if meter else nullcontext(),
        step_in_backward(optimizer) if in_backward else nullcontext(),
    ):
        parts = list(parts_of_batch(batch, state.recipe.micro_batch_size, state.kind))
        losses = [_backward(technique, state, *part) for part in parts]
    gradients = 0
    if in_backward:
        if measure:  # one gradient at a time
            gradients = max(bytes_of([p]) for p in state.model.parameters() if p.requires_grad)
    else:
        if state.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.recipe.clip_norm)
        technique.after_backward(state)
        gradients = bytes_of(p.grad for p in state.model.parameters()) if measure else 0
        optimizer.step()
    if measure and meter:
        measure(measured_split(state, optimizer, gradients, meter.peak))
    optimizer.zero_grad()
    state.step += 1
    technique.after_step(state)
    minimised, plain = (torch.stack(each).sum() for each in zip(*losses, strict=True))
    return minimised, plain


def set_trainable(state: TrainState, names: Names) -> None:
    """Train these parameters and no others; what is no longer trained loses its gradient."""
    chosen = set(names)
    for name, parameter in state.model.named_parameters():
        if parameter.requires_grad != (name in chosen):
            parameter.requires_grad_(name in chosen)
            parameter.grad = None


def drop_states_of_frozen(optimizer: torch.optim.Optimizer) -> None:
    """Drop the optimizer's states of weights that are not trained now."""
    for parameter in [p for p in optimizer.state if not p.requires_grad]:
        del optimizer.state[parameter]


def parts_of_batch(batch: Mapping[str, Tensor], size: int | None, kind: Kind) -> Iterator[Part]:
    """The parts of a batch that have a pass each: those with targets, whose mean is defined."""
    rows = len(next(iter(batch.values())))
    if size is None or size >= rows:
        yield Part(0, dict(batch), None)
        return
    whole = kind.targets(batch)
    for number, start in enumerate(range(0, rows, size)):
        part = {name: tensor[start : start + size] for name, tensor in batch.items()}
        if (own := kind.targets(part)) or not whole:
            yield Part(number, part, own / whole if whole else 1.0)


def _backward(
    technique: Technique,
    state: TrainState,
    number: int,
    batch: dict[str, Tensor],
    share: float | None,
) -> tuple[Tensor, Tensor]:
    """A forward and a backward pass; returns the minimised loss and the task's own, detached."""
    if number:
        state.part = number
        state.reseed()
    outputs = state.forward(batch)
    plain = outputs.loss
    loss: Tensor = technique.loss(plain, outputs, batch, state)
    plain = plain.detach()
    if share is not None:
        loss, plain = loss * share, plain * share
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), plain
