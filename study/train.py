"""One run, from pretrained weights to its outcome."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from study import metrics
from study.batches import Encoded
from study.fitting import Fit, Setting, begin, score
from study.kinds import Outputs
from study.memory import peak_memory, reset_peak_memory
from study.models import Loaded


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        outcome: `diverged` where a loss or an output was not finite; scores are then NaN.
        collapsed: Why the run counts as no better than a constant answer; empty where it does not.
        dev: Deciding metric of the weights that count, on dev.
        test: The same on test, read once, after every choice is made.
        dev_floor: The constant predictor's score on dev.
        test_floor: The same on test.
        curves: One value per epoch: `train/loss` (mean over the epoch) and `dev/<metric>`.
        logits: Per split (`dev`, `test`) the model's outputs, shape (n_examples, n_outputs).
        facts: `seconds`, `steps_per_second`, `peak_memory_bytes`, `trained_fraction`, `steps`.
        device: Kind of device.
    """

    outcome: Literal["completed", "diverged"]
    collapsed: list[str] = field(default_factory=list)
    dev: float = float("nan")
    test: float = float("nan")
    dev_floor: float = float("nan")
    test_floor: float = float("nan")
    curves: dict[str, list[float]] = field(default_factory=dict)
    logits: dict[str, Outputs] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"


def train(
    setting: Setting,
    data: Mapping[str, Encoded],
    loaded: Loaded,
    device: torch.device,
) -> tuple[Outcome, nn.Module]:
    """Fine-tune once.

    Args:
        setting: What to train.
        data: The task's splits, encoded for this checkpoint.
        loaded: The checkpoint.
        device: Where to train.

    Returns:
        The outcome, the same bits for the same setting on one kind of device; and the model with
        the weights that count.
    """
    began = time.perf_counter()
    reset_peak_memory(device)
    fit, spent = _best_start(setting, data, loaded, device)
    test = fit.final()
    facts = {
        "seconds": time.perf_counter() - began,
        "steps": float(spent.steps),
        "steps_per_second": spent.steps / spent.seconds,
        "peak_memory_bytes": float(peak_memory(device)),
        "trained_fraction": fit.trained_fraction,
    }
    outcome = Outcome(
        "diverged",
        dev_floor=metrics.floor(setting.metric, setting.kind, data["dev"]),
        test_floor=metrics.floor(setting.metric, setting.kind, data["test"]),
        curves={"train/loss": fit.losses, f"dev/{setting.metric.name}": fit.scores},
        facts=facts,
        device=device.type,
    )
    if fit.kept is not None and test is not None:
        outputs = {"dev": fit.kept.logits, "test": test}
        outcome = _completed(outcome, setting, data, outputs, fit.plain_loss)
    return outcome, fit.state.model


@dataclass
class _Spent:
    """Optimizer steps, and the seconds they took, of all starts."""

    steps: int = 0
    seconds: float = 0.0

    def add(self, fit: Fit) -> None:
        """Count a fit that is over."""
        self.steps += fit.state.step
        self.seconds += fit.stepping


def _best_start(
    setting: Setting, data: Mapping[str, Encoded], loaded: Loaded, device: torch.device
) -> tuple[Fit, _Spent]:
    """Train every start for a while, then the one with the best dev score to its end."""
    starts = setting.technique.starts(setting.seed)
    spent = _Spent()
    best: Fit | None = None
    going: Iterator[None] = iter(())
    for seed in starts.seeds:
        fit = begin(replace(setting, seed=seed), data, loaded, device)
        epochs = fit.epochs()
        for _ in range(starts.epochs if len(starts.seeds) > 1 else 0):
            next(epochs, None)
        if best is None or fit.standing > best.standing:  # the first of equals
            if best is not None:
                spent.add(best)
            best, going = fit, epochs
        else:
            spent.add(fit)
    assert best is not None
    for _ in going:
        pass
    spent.add(best)
    return best, spent


def _completed(
    outcome: Outcome,
    setting: Setting,
    data: Mapping[str, Encoded],
    logits: dict[str, Outputs],
    train_loss: float,
) -> Outcome:
    dev, test = (score(setting, logits[split], data[split]) for split in ("dev", "test"))
    rules = metrics.collapse_rules(
        setting.metric,
        dev=dev,
        floor=outcome.dev_floor,
        examples=len(data["dev"].ids),
        constant=setting.kind.is_constant(setting.kind.answers(logits["dev"], data["dev"])),
        train_loss=train_loss,
        loss_to_beat=setting.kind.loss_to_beat(data["train"]),
    )
    return replace(
        outcome,
        outcome="completed",
        collapsed=rules,
        dev=dev if np.isfinite(dev) else outcome.dev_floor,
        test=test if np.isfinite(test) else outcome.test_floor,
        logits=logits,
    )
