"""Interrupting and resuming a run, as if each part ran in another process."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from study.models.loading import Loaded
from study.models.model import Model
from study.tasks.kinds.encoded import Encoded
from study.training.checkpoint import ResumableCheckpoint
from study.training.fit import Setting
from study.training.tensor_file import Tree
from study.training.train import Outcome, train
from tests.conftest import CPU


class Interrupted(Exception):
    """Stands for the death of the process."""


class Heartbeats:
    """Counts the heartbeats of a run, and interrupts it after `last` of them."""

    def __init__(self, last: float = float("inf")) -> None:
        self.count, self.last = 0, last

    def __call__(self) -> None:
        if self.count >= self.last:
            raise Interrupted
        self.count += 1


class CountingCheckpoint(ResumableCheckpoint):
    """Counts its saves; with a save after every step these are the steps of a process."""

    saves = 0

    def save(self, state: Callable[[], Tree]) -> None:
        super().save(state)
        self.saves += 1


def uninterrupted(
    setting: Setting, data: dict[str, Encoded], model: Model
) -> tuple[Outcome, nn.Module]:
    """The run without interruption."""
    return train(setting, data, Loaded(model, setting.kind), CPU)


def count_heartbeats(setting: Setting, data: dict[str, Encoded], model: Model, folder: Path) -> int:
    """The number of heartbeats of the whole run."""
    beats = Heartbeats()
    unsaved = ResumableCheckpoint(folder, float("inf"), "key", heartbeat=beats)
    train(setting, data, Loaded(model, setting.kind), CPU, unsaved)
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
    """The run, saved after every step and interrupted after so many heartbeats of each process.

    Returns:
        Outcome, model, and the number of steps of the last process.
    """
    for last in [*stops, float("inf")]:
        torch.manual_seed(last if isinstance(last, int) else 0)  # global draws must not matter
        checkpoint = CountingCheckpoint(folder, 0.0, "key", heartbeat=Heartbeats(last))
        with suppress(Interrupted):
            outcome, trained = train(setting, data, Loaded(model, setting.kind), device, checkpoint)
    return outcome, trained, checkpoint.saves


def bits(outcome: Outcome, trained: nn.Module) -> dict[str, object]:
    """Everything a run returns, as bytes, except its times and its memory."""
    counted = {name: outcome.facts[name] for name in ("steps", "trained_fraction")}
    logits = {split: array.tobytes() for split, array in outcome.logits.items()}
    weights = {name: p.detach().numpy().tobytes() for name, p in trained.named_parameters()}
    return {"outcome": repr(replace(outcome, facts=counted, logits={})), **logits, **weights}
