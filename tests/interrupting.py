"""Runs that are cut short and go on, each time as in another process."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from study.models.loading import Loaded
from study.models.model import Model
from study.tasks.kinds.encoded import Encoded
from study.training.checkpoint import Checkpoints
from study.training.fit import Setting
from study.training.tensor_file import Tree
from study.training.train import Outcome, train
from tests.conftest import CPU


class Interrupted(Exception):
    """The process is gone, as far as a test can tell."""


class Beats:
    """Counts how often a run moved, and cuts it short."""

    def __init__(self, last: float = float("inf")) -> None:
        self.count, self.last = 0, last

    def __call__(self) -> None:
        if self.count >= self.last:
            raise Interrupted
        self.count += 1


class Counting(Checkpoints):
    """Counts its saves: with one after every step, the steps of a process."""

    saves = 0

    def save(self, place: Callable[[], Tree]) -> None:
        super().save(place)
        self.saves += 1


def whole(setting: Setting, data: dict[str, Encoded], model: Model) -> tuple[Outcome, nn.Module]:
    """The run without interruption."""
    return train(setting, data, Loaded(model, setting.kind), CPU)


def beats_of(setting: Setting, data: dict[str, Encoded], model: Model, folder: Path) -> int:
    """How often the run moves, from its start to its end."""
    beats = Beats()
    nowhere = Checkpoints(folder, float("inf"), "key", beat=beats)
    train(setting, data, Loaded(model, setting.kind), CPU, nowhere)
    return beats.count


def resumed(
    setting: Setting,
    data: dict[str, Encoded],
    model: Model,
    folder: Path,
    *,
    stops: Iterable[int],
    device: torch.device = CPU,
) -> tuple[Outcome, nn.Module, int]:
    """The run, cut short after so many beats of each process; saved after every step.

    Returns:
        Outcome, model, and the steps of the last process.
    """
    for last in [*stops, float("inf")]:
        torch.manual_seed(last if isinstance(last, int) else 0)  # nothing global may matter
        beats = Beats(last)
        checkpoints = Counting(folder, 0.0, "key", beat=beats)
        with suppress(Interrupted):
            outcome, trained = train(
                setting, data, Loaded(model, setting.kind), device, checkpoints
            )
    return outcome, trained, checkpoints.saves


def bits(outcome: Outcome, trained: nn.Module) -> dict[str, object]:
    """All that a run leaves, as bytes; without what a clock or the machine's memory says."""
    counted = {name: outcome.facts[name] for name in ("steps", "trained_fraction")}
    logits = {split: array.tobytes() for split, array in outcome.logits.items()}
    weights = {name: p.detach().numpy().tobytes() for name, p in trained.named_parameters()}
    return {"outcome": repr(replace(outcome, facts=counted, logits={})), **logits, **weights}
