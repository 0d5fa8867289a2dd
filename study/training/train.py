"""One run, from pretrained weights to its outcome."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from study.core.provenance import environment
from study.core.seeding import Seed
from study.models.loading import Loaded
from study.tasks import collapse
from study.tasks.kinds import Outputs
from study.tasks.kinds.encoded import Encoded
from study.techniques.base import parts_of
from study.techniques.state import still
from study.training.checkpoint import Checkpoints
from study.training.fit import Fit, Setting, begin, score
from study.training.memory import peak_memory, reset_peak_memory
from study.training.tensor_file import CheckpointError, Tree


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
    checkpoints: Checkpoints | None = None,
) -> tuple[Outcome, nn.Module]:
    """Fine-tune once.

    Args:
        setting: What to train.
        data: The task's splits, encoded for this checkpoint.
        loaded: The checkpoint.
        device: Where to train.
        checkpoints: Where the run was saved, if it was, and saves its place on the way; the caller
            clears them.

    Returns:
        The outcome, the same bits for the same setting on one kind of device, however often the run
        was interrupted; and the model with the weights that count.
    """
    reset_peak_memory(device)
    course = MultiStartRun(setting, data, loaded, device, checkpoints)
    if checkpoints is not None:
        course = _resumed(course, checkpoints)
    fit = course.run()
    test = fit.final()
    facts = {
        "seconds": course.seconds,
        "steps": float(course.steps),
        "steps_per_second": course.steps / course.stepping,
        "peak_memory_bytes": float(course.peak),
        "trained_fraction": fit.trained_fraction,
    }
    outcome = Outcome(
        "diverged",
        dev_floor=collapse.floor(setting.metric, setting.kind, data["dev"]),
        test_floor=collapse.floor(setting.metric, setting.kind, data["test"]),
        curves={"train/loss": fit.losses, f"dev/{setting.metric.name}": fit.scores},
        facts=facts,
        device=device.type,
    )
    if fit.kept is not None and test is not None:
        outputs = {"dev": fit.kept.logits, "test": test}
        outcome = _completed(outcome, setting, data, outputs, fit.plain_loss)
    return outcome, fit.state.model


@dataclass
class MultiStartRun:
    """A run under way: every start for a while, then the one that is best on dev to its end.

    Attributes:
        setting: What to train.
        data: The task's splits.
        loaded: The checkpoint.
        device: Where to train.
        checkpoints: Where its place is saved.
        begun: Starts that are compared.
        fit: The start that trains; None between two.
        best: The best of those compared.
        steps: Optimizer steps of the starts that are over.
        stepping: The seconds that those took.
        earlier: Seconds and peak memory before the run was interrupted.
        began: By the process's clock.
    """

    setting: Setting
    data: Mapping[str, Encoded]
    loaded: Loaded
    device: torch.device
    checkpoints: Checkpoints | None
    begun: int = 0
    fit: Fit | None = None
    best: Fit | None = None
    steps: int = 0
    stepping: float = 0.0
    earlier: tuple[float, int] = (0.0, 0)
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Spent so far."""
        return self.earlier[0] + time.perf_counter() - self.began

    @property
    def peak(self) -> int:
        """The most memory so far."""
        return max(self.earlier[1], peak_memory(self.device))

    def run(self) -> Fit:
        """Train on to the end; the fit that counts."""
        starts = self.setting.technique.starts(self.setting.seed)
        trial = starts.epochs if len(starts.seeds) > 1 else 0
        for seed in starts.seeds[self.begun :]:
            self.fit = fit = self.fit or self.begin(seed)
            epochs = fit.epochs(self._stepped)
            while len(fit.losses) < trial and not fit.over:
                next(epochs, None)
            worse: Fit | None = fit
            if self.best is None or fit.standing > self.best.standing:  # the first of equals
                worse, self.best = self.best, fit
            self._count(worse)
            self.fit, self.begun = None, self.begun + 1
        self.fit, self.best = self.best or self.fit, None
        assert self.fit is not None
        for _ in self.fit.epochs(self._stepped):
            pass
        self._count(self.fit)
        return self.fit

    def begin(self, seed: Seed) -> Fit:
        """One start."""
        setting = replace(self.setting, seed=seed)
        beat = self.checkpoints.beat if self.checkpoints else still
        return begin(setting, self.data, self.loaded, self.device, beat=beat)

    def place(self, earlier: tuple[float, int]) -> dict[str, Tree]:
        """All that a checkpoint of it holds, with the seconds and the peak memory so far."""
        return {
            "earlier": list(earlier),
            "begun": self.begun,
            "steps": self.steps,
            "stepping": self.stepping,
            "fit": self.fit and self.fit.place(),
            "best": self.best and self.best.place(),
        }

    def put(self, place: dict[str, Tree]) -> None:
        """Go to where another process was.

        Raises:
            CheckpointError: If what is made again is not what it was.
        """
        seconds, peak = place["earlier"]
        self.earlier = seconds, peak
        self.begun, self.steps, self.stepping = place["begun"], place["steps"], place["stepping"]
        for name in ("best", "fit"):
            if (saved := place[name]) is not None:
                fit = self.begin(Seed(*saved["seed"]))
                setattr(self, name, fit)
                fit.put(saved)

    def _count(self, fit: Fit | None) -> None:
        if fit is not None:
            self.steps += fit.state.step
            self.stepping += fit.stepping

    def _stepped(self) -> None:
        if self.checkpoints and self.checkpoints.due:
            self.checkpoints.save(lambda: self.place((self.seconds, self.peak)))


def _resumed(course: MultiStartRun, checkpoints: Checkpoints) -> MultiStartRun:
    """The run where it was; as it is where nothing was saved that can be trusted."""
    setting = course.setting
    own = [*map(type, parts_of(setting.technique)), setting.metric.score]
    saved = checkpoints.load(environment(course.device, own))
    if saved is None:
        return course
    resumed = replace(course)
    try:
        resumed.put(saved)
        checkpoints.check(resumed.place(resumed.earlier))
    except CheckpointError as error:
        checkpoints.refuse(str(error))
        return course
    return resumed


def _completed(
    outcome: Outcome,
    setting: Setting,
    data: Mapping[str, Encoded],
    logits: dict[str, Outputs],
    train_loss: float,
) -> Outcome:
    dev, test = (score(setting, logits[split], data[split]) for split in ("dev", "test"))
    rules = collapse.collapse_rules(
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
