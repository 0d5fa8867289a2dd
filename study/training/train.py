"""Training one run, from pretrained weights to its outcome."""

import time
from collections.abc import Mapping, Sequence
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
from study.techniques.state import no_heartbeat
from study.training.checkpoint import ResumableCheckpoint
from study.training.fit import Fit, Read, Setting, answers_of, begin
from study.training.frozen_base import FrozenBase, frozen_base
from study.training.memory import peak_memory, reset_peak_memory
from study.training.retained import Skill, facts_of
from study.training.tensor_file import CheckpointError, Tree


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        outcome: `diverged` where a loss, an output or a score was not finite; scores are then NaN.
        collapsed: Rules by which the run is not clearly better than a constant answer.
        dev: Deciding metric on dev, of the selected weights.
        test: The same on test, which is read once, after every choice.
        dev_floor: The constant predictor's score on dev; NaN where it is not finite.
        test_floor: The same on test.
        curves: One value per epoch: `train/loss` (mean over the epoch) and `dev/<metric>`; where a
            technique chooses in each step what it trains, also `trained/depth_<number>`, the share
            of the weights at that depth that a step trained.
        logits: Per split (`dev`, `test`) the model's outputs, shape (n_examples, n_outputs).
        texts: Per split the generated texts, where the metric is of these.
        facts: `seconds`, `steps_per_second`, `peak_memory_bytes`, `trained_fraction`, `steps`,
            `base_unchanged` (1 or 0, where no pretrained weight is trained), and what the largest
            step held (`MemorySplit`), such as `activations_bytes`. With skills also what it
            retained of them, see `training.retained.facts_of`.
        base: What became of the pretrained weights; None where any is trained.
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
    texts: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    base: FrozenBase | None = None
    device: str = "cpu"


def train(
    setting: Setting,
    data: Mapping[str, Encoded],
    loaded: Loaded,
    device: torch.device,
    checkpoint: ResumableCheckpoint | None = None,
    skills: Sequence[Skill] = (),
) -> tuple[Outcome, nn.Module]:
    """Fine-tune once.

    Args:
        setting: What to train.
        data: The task's splits, encoded for this model.
        loaded: The pretrained model.
        device: Where to train.
        checkpoint: The run's resumable checkpoint; the caller clears it.
        skills: What to score beside the task, with the scores before training.

    Returns:
        The outcome, and the model with the selected weights. On one kind of device the same
        setting gives the same bits, however often the run was interrupted.
    """
    reset_peak_memory(device)
    run = MultiStartRun(setting, data, loaded, device, checkpoint)
    if checkpoint is not None:
        run = _resume(run, checkpoint)
    fit = run.run()
    test = fit.final()
    facts = {
        "seconds": run.seconds,
        "steps": float(run.steps),
        "steps_per_second": run.steps / run.step_seconds,
        "peak_memory_bytes": float(run.peak),
        "trained_fraction": fit.trained_fraction,
    }
    if fit.memory is not None:
        facts |= {f"{name}_bytes": float(n) for name, n in fit.memory._asdict().items()}
    facts |= facts_of(skills, None if test is None else fit.state, loaded.processor)
    trained = {name for phase in fit.phases for name in phase.names}
    base = frozen_base(fit.state, loaded, trained)
    if base is not None:
        facts["base_unchanged"] = float(base.unchanged)
    outcome = Outcome(
        "diverged",
        dev_floor=collapse.floor(setting.metric, setting.kind, data["dev"]),
        test_floor=collapse.floor(setting.metric, setting.kind, data["test"]),
        curves={
            "train/loss": fit.losses,
            f"dev/{setting.metric.name}": fit.scores,
            **_trained_curves(fit),
        },
        facts=facts,
        base=base,
        device=device.type,
    )
    if fit.selected is not None and test is not None:
        dev = Read(fit.selected.logits, fit.selected.texts)
        outcome = _completed(outcome, setting, data, {"dev": dev, "test": test}, fit.task_loss)
    return outcome, fit.state.model


def _trained_curves(fit: Fit) -> dict[str, list[float]]:
    by_depth = zip(*fit.trained, strict=True)
    return {f"trained/depth_{depth:02}": list(each) for depth, each in enumerate(by_depth)}


@dataclass
class MultiStartRun:
    """A run in progress: every start for some epochs, then the best on dev to its end.

    Attributes:
        setting: What to train.
        data: The task's splits.
        loaded: The pretrained model.
        device: Where to train.
        checkpoint: The run's resumable checkpoint.
        compared: Number of starts that have been compared.
        fit: The start in training; None between two.
        best: The best of those compared.
        steps: Optimizer steps of finished starts.
        step_seconds: Time that those took.
        before: Seconds and peak memory up to the last interruption.
        started_at: When this process began, by `time.perf_counter`.
    """

    setting: Setting
    data: Mapping[str, Encoded]
    loaded: Loaded
    device: torch.device
    checkpoint: ResumableCheckpoint | None
    compared: int = 0
    fit: Fit | None = None
    best: Fit | None = None
    steps: int = 0
    step_seconds: float = 0.0
    before: tuple[float, int] = (0.0, 0)
    started_at: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Training time of all processes so far."""
        return self.before[0] + time.perf_counter() - self.started_at

    @property
    def peak(self) -> int:
        """Peak memory of all processes so far, in bytes."""
        return max(self.before[1], peak_memory(self.device))

    def run(self) -> Fit:
        """Train to the end.

        Returns:
            The start that counts.
        """
        starts = self.setting.technique.starts(self.setting.seed)
        trial_epochs = starts.epochs if len(starts.seeds) > 1 else 0
        for seed in starts.seeds[self.compared :]:
            self.fit = fit = self.fit or self.begin(seed)
            epochs = fit.epochs(self._save_if_due)
            while len(fit.losses) < trial_epochs and not fit.finished:
                next(epochs, None)
            dropped: Fit | None = fit
            if self.best is None or fit.order_key > self.best.order_key:  # the first of equals
                dropped, self.best = self.best, fit
            self._add_cost(dropped)
            self.fit, self.compared = None, self.compared + 1
        self.fit, self.best = self.best or self.fit, None
        assert self.fit is not None
        for _ in self.fit.epochs(self._save_if_due):
            pass
        self._add_cost(self.fit)
        return self.fit

    def begin(self, seed: Seed) -> Fit:
        """Prepare one start."""
        setting = replace(self.setting, seed=seed)
        heartbeat = self.checkpoint.heartbeat if self.checkpoint else no_heartbeat
        return begin(setting, self.data, self.loaded, self.device, heartbeat=heartbeat)

    def state_dict(self, before: tuple[float, int]) -> dict[str, Tree]:
        """What a resumable checkpoint holds, with these seconds and this peak memory."""
        return {
            "before": list(before),
            "compared": self.compared,
            "steps": self.steps,
            "step_seconds": self.step_seconds,
            "fit": self.fit and self.fit.state_dict(),
            "best": self.best and self.best.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Tree]) -> None:
        """Continue from the state of another process.

        Raises:
            CheckpointError: If an optimizer is not of the saved structure.
        """
        seconds, peak = saved["before"]
        self.before = seconds, peak
        self.compared, self.steps = saved["compared"], saved["steps"]
        self.step_seconds = saved["step_seconds"]
        for name in ("best", "fit"):
            if (start := saved[name]) is not None:
                fit = self.begin(Seed(*start["seed"]))
                setattr(self, name, fit)
                fit.load_state_dict(start)

    def _add_cost(self, fit: Fit | None) -> None:
        if fit is not None:
            self.steps += fit.state.step
            self.step_seconds += fit.step_seconds

    def _save_if_due(self) -> None:
        if self.checkpoint and self.checkpoint.due:
            self.checkpoint.save(lambda: self.state_dict((self.seconds, self.peak)))


def _resume(run: MultiStartRun, checkpoint: ResumableCheckpoint) -> MultiStartRun:
    """The run in its saved state; unchanged where there is none that can be trusted."""
    setting = run.setting
    user_code = [*map(type, parts_of(setting.technique)), setting.metric.score]
    saved = checkpoint.load(environment(run.device, user_code))
    if saved is None:
        return run
    resumed = replace(run)  # a copy, so that a failed attempt leaves `run` as it is
    try:
        resumed.load_state_dict(saved)
        checkpoint.check(resumed.state_dict(resumed.before))
    except CheckpointError as error:
        checkpoint.refuse(str(error))
        return run
    return resumed


def _completed(
    outcome: Outcome,
    setting: Setting,
    data: Mapping[str, Encoded],
    read: dict[str, Read],
    train_loss: float,
) -> Outcome:
    """The outcome of a run with finite outputs; it has diverged if a score is not finite."""
    metric, kind = setting.metric, setting.kind
    answers = {split: answers_of(kind, each, data[split]) for split, each in read.items()}
    dev, test = (collapse.recorded(metric, kind, data[s], answers[s]) for s in ("dev", "test"))
    if not (np.isfinite(dev) and np.isfinite(test)):
        return outcome
    rules = collapse.collapse_rules(
        metric,
        dev=dev,
        floor=outcome.dev_floor,
        examples=len(data["dev"].ids),
        constant=kind.is_constant(answers["dev"]),
        train_loss=train_loss,
        loss_to_beat=kind.loss_to_beat(data["train"]),
    )
    return replace(
        outcome,
        outcome="completed",
        collapsed=rules,
        dev=dev,
        test=test,
        logits={split: each.outputs for split, each in read.items()},
        texts={split: each.texts for split, each in read.items() if each.texts is not None},
    )
