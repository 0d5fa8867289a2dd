"""The training loop of one start: phases, epochs, steps, and the dev score after each epoch."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from study.core.recipe import Recipe
from study.core.seeding import Seed, derive, seed_global
from study.models.families import depths_of
from study.models.loading import Loaded
from study.tasks import metrics
from study.tasks.kinds import Kind, Outputs
from study.tasks.kinds.encoded import (
    Encoded,
    Ints,
    collate,
    evaluation_batches,
    padded_tokens,
    training_rows,
)
from study.techniques.base import Technique, chooses_by_step
from study.techniques.state import Group, Phase, TrainState, no_heartbeat
from study.training.checkpoint import digest, restore
from study.training.generate import evaluated_together, generate
from study.training.memory import MemorySplit, state_bytes
from study.training.savers import MemorySavers
from study.training.step import one_step, start_phase
from study.training.tensor_file import CheckpointError, Tree


@dataclass(frozen=True)
class Setting:
    """What the training core needs to know of a run; it has no files and no names.

    Attributes:
        recipe: The configuration's recipe, before the technique's `recipe` hook.
        technique: The technique.
        seed: Seeds of the three streams.
        metric: The deciding metric.
        kind: What the model's outputs mean.
        savers: How to need less memory; no part of a run's key.
    """

    recipe: Recipe
    technique: Technique
    seed: Seed
    metric: metrics.Metric
    kind: Kind
    savers: MemorySavers = MemorySavers()


class SelectedEpoch(NamedTuple):
    """The epoch whose weights count so far: the last one, or the best on dev.

    Attributes:
        logits: Its dev outputs.
        oriented: Its dev score, higher is better.
        weights: Its weights; None where the model still has them.
        texts: What it generated for the dev rows; None where the metric needs none.
    """

    logits: Outputs
    oriented: float
    weights: dict[str, Tensor] | None
    texts: list[str] | None = None


class Read(NamedTuple):
    """What a model makes of a split.

    Attributes:
        outputs: Its outputs, shape (n_units, n_outputs).
        texts: What it generates, one per example; None where the metric needs none.
    """

    outputs: Outputs
    texts: list[str] | None


@dataclass
class Fit:
    """One start of a run and its progress.

    Attributes:
        setting: What to train.
        data: The task's splits.
        state: The model and what hooks see of its training.
        phases: The phases of training, in order.
        losses: `train/loss` per epoch so far.
        scores: The dev score per epoch so far.
        tokenizer: The checkpoint's, or its image processor.
        totals: Sums over the rows of the current epoch of the minimised loss and of the task's own
            loss; shape (2,).
        trained: Per epoch so far the share of the weights that a step trained, by depth, mean over
            steps; empty where the technique does not choose step by step.
        selected: The epoch whose weights count so far; None before the first, and after divergence.
        task_loss: The task's own mean loss over the last epoch.
        step_seconds: Time spent in training steps.
        memory: What the step held that is measured, the one with the most tokens in the first and
            the last epoch of a phase, or all of these epochs where the technique chooses in each
            step what it trains; of several that with the largest sum. None before the first.
    """

    setting: Setting
    data: Mapping[str, Encoded]
    state: TrainState
    phases: list[Phase]
    tokenizer: Any
    totals: Tensor
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    trained: list[list[float]] = field(default_factory=list)
    selected: SelectedEpoch | None = None
    task_loss: float = math.nan
    step_seconds: float = 0.0
    memory: MemorySplit | None = None
    _counts: list[int] = field(default_factory=list, init=False)  # trained, by depth, over steps
    _sizes: list[tuple[Tensor, int]] = field(default_factory=list, init=False)  # with their depths
    _groups: list[Group] = field(default_factory=list, init=False)
    _optimizer: torch.optim.Optimizer | None = field(default=None, init=False)  # of the phase

    @property
    def order_key(self) -> tuple[float, float]:
        """What starts are compared by: the last dev score, then the negated last training loss.

        Small dev sets often tie. Higher is better; -inf where undefined or diverged.
        """
        if self.selected is None or not np.isfinite(self.scores[-1]):
            return -math.inf, -math.inf
        return self.setting.metric.oriented(self.scores[-1]), -self.losses[-1]

    @property
    def finished(self) -> bool:
        """Whether no epoch is left or the last one diverged."""
        diverged = bool(self.losses) and self.selected is None
        return diverged or self._trained

    def epochs(self, after_step: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Train, yielding after every epoch; ends early where a loss or output is not finite.

        Args:
            after_step: Called after every optimizer step; the state can be saved there.
        """
        while not self.finished:
            if len(self.losses) == self._epochs_before(self.state.phase + 1):
                self.state.phase += 1
                self._optimizer = None
            self._train_epoch(self._optimizer or self._start_phase(), after_step)
            with _evaluation_weights(self.setting.technique, self.state):
                self._evaluate()
            if self.selected is None:
                return
            yield

    @property
    def _trained(self) -> bool:
        """Whether no epoch is left."""
        return len(self.losses) == self._epochs_before(len(self.phases))

    def _epochs_before(self, phase: int) -> int:
        train = self.data["train"]
        return sum(_epochs(phase.recipe, train) for phase in self.phases[:phase])

    def _start_phase(self) -> torch.optim.Optimizer:
        """Set up the current phase, at its start or after resuming inside it."""
        phase = self.phases[self.state.phase]
        self._optimizer, self._groups = start_phase(self.setting.technique, self.state, phase)
        if chooses_by_step(self.setting.technique):
            named = self.state.model.named_parameters()
            self._sizes = [(parameter, self.state.depths.of(name)) for name, parameter in named]
        return self._optimizer

    def _train_epoch(
        self, optimizer: torch.optim.Optimizer, after_step: Callable[[], None]
    ) -> None:
        """Train on all batches of an epoch, or after resuming on the remaining ones."""
        state, train, phase = self.state, self.data["train"], self.phases[self.state.phase]
        before = sum(_steps(earlier.recipe, train) for earlier in self.phases[: state.phase])
        epochs = len(self.losses) - self._epochs_before(state.phase)
        done = epochs * _batches_per_epoch(phase.recipe, train)
        begun, steps = before + done, _steps(phase.recipe, train)
        started = time.perf_counter()
        state.model.train()
        # The order of batches is derived from seed and epoch, so a resumed run skips those that are
        # done and gets the same ones as before.
        batches = _batch_rows(train, state, epoch=len(self.losses))[: steps - done]
        measured: Collection[int] = ()
        last = _epochs(phase.recipe, train) - 1
        if epochs in (0, last):  # some techniques train ever more weights
            largest = int(np.argmax([padded_tokens(train, rows) for rows in batches]))
            # What a step holds depends on what it trains where a technique chooses that.
            every = chooses_by_step(self.setting.technique)
            measured = range(begun, begun + len(batches)) if every else {begun + largest}
        for rows in batches[state.step - begun :]:
            batch = _to_device(collate(train, rows), state.device)
            factor = schedule(phase.recipe, state.step - before, steps)
            for own, group in zip(optimizer.param_groups, self._groups, strict=True):
                own["lr"] = group.lr * factor
            state.rates = {name: g.lr * factor for g in self._groups for name in g.names}
            measure = self._keep_larger if state.step in measured else None
            losses = one_step(
                self.setting.technique,
                state,
                phase,
                optimizer,
                batch,
                measure,
                in_backward=self.setting.savers.step_in_backward,
            )
            self.totals += torch.stack(losses) * len(next(iter(batch.values())))
            self._count_trained()
            self.step_seconds += time.perf_counter() - started
            state.heartbeat()
            after_step()
            started = time.perf_counter()
        if self.memory is not None:
            states = max(self.memory.optimizer, state_bytes(optimizer))
            self.memory = self.memory._replace(optimizer=states)
        minimised, self.task_loss = (self.totals / sum(map(len, batches))).tolist()
        self.totals.zero_()
        self.losses.append(minimised)
        if self._counts:
            whole = [0] * len(self._counts)
            for parameter, depth in self._sizes:
                whole[depth] += parameter.numel() * len(batches)
            shares = zip(self._counts, whole, strict=True)
            self.trained.append([count / max(1, size) for count, size in shares])
            self._counts = []
        self.step_seconds += time.perf_counter() - started

    def _keep_larger(self, split: MemorySplit) -> None:
        if self.memory is None or sum(split) > sum(self.memory):
            self.memory = split

    def _count_trained(self) -> None:
        """Count the weights at each depth that this step trained, if the technique chooses them."""
        if not self._sizes:
            return
        self._counts = self._counts or [0] * (self.state.depths.head + 1)
        for parameter, depth in self._sizes:
            if parameter.requires_grad:
                self._counts[depth] += parameter.numel()

    def _evaluate(self) -> None:
        outputs = predict(self.state, self.data["dev"])
        if not (np.isfinite(self.losses[-1]) and np.isfinite(outputs).all()):
            self.selected = None
            return
        # Generating takes long, so it is done where the score decides about an epoch, or reports.
        read = self._trained or self.state.recipe.checkpoint == "best_dev"
        texts = self._texts("dev") if read else None
        known = read or not self.setting.metric.generates
        dev = score(self.setting, Read(outputs, texts), self.data["dev"]) if known else math.nan
        self.scores.append(dev)
        self.selected = _select(self.selected, Read(outputs, texts), dev, self.setting, self.state)

    def _texts(self, split: str) -> list[str] | None:
        if not self.setting.metric.generates:
            return None
        return generate(self.state, self.data[split], self.tokenizer)

    def final(self) -> Read | None:
        """Load the selected weights and read test, once.

        Returns:
            None where the run diverged.
        """
        if self.selected is None:
            return None
        evaluated = self.selected.weights
        if evaluated is None:
            own: dict[str, Tensor] = dict(self.state.model.named_parameters())
            evaluated = self.setting.technique.evaluated(own, self.state)
        for name, parameter in self.state.model.named_parameters():
            parameter.data = evaluated[name].detach()
        outputs = predict(self.state, self.data["test"])
        return Read(outputs, self._texts("test")) if np.isfinite(outputs).all() else None

    def state_dict(self) -> dict[str, Tree]:
        """The state between two steps, without what `begin` rebuilds."""
        state, model = self.state, self.state.model
        trained = {name for phase in self.phases for name in phase.names}
        weights = {name: p for name, p in model.named_parameters() if name in trained}
        frozen = {name: p for name, p in model.named_parameters() if name not in trained}
        selected = self.selected
        return {
            "seed": list(self.setting.seed),
            "step": state.step,
            "phase": state.phase,
            "losses": self.losses,
            "scores": self.scores,
            "trained": self.trained,
            "counts": self._counts,
            "totals": self.totals,
            "task_loss": self.task_loss,
            "step_seconds": self.step_seconds,
            "memory": list(self.memory) if self.memory else None,
            "selected": [torch.from_numpy(selected.logits), *selected[1:]] if selected else None,
            "groups": [list(astuple(group)) for group in self._groups],
            "optimizer": self._optimizer.state_dict() if self._optimizer else None,
            "weights": weights,
            "buffers": dict(model.named_buffers()),
            "memo": state.memo,
            "start": state.start_read,
            # Rebuilt instead of saved; the digest shows whether it came out the same.
            "rebuilt": digest([frozen, state.fixed, state.start if state.start_read else None]),
        }

    def load_state_dict(self, saved: dict[str, Tree]) -> None:
        """Continue from the state of another process; call it on a fit that has just begun.

        Raises:
            CheckpointError: If the optimizer is not of the saved structure.
        """
        state = self.state
        if saved["start"]:
            _ = state.start  # copies the weights, which are still those of the start
        restore(saved["memo"], state.memo, state.device)
        restore(saved["totals"], self.totals, state.device)
        self.losses, self.scores = saved["losses"], saved["scores"]
        self.trained, self._counts = saved["trained"], saved["counts"]
        self.task_loss, self.step_seconds = saved["task_loss"], saved["step_seconds"]
        self.memory = MemorySplit(*saved["memory"]) if saved["memory"] else None
        if saved["selected"]:
            logits, oriented, weights, texts = saved["selected"]
            self.selected = SelectedEpoch(
                logits.numpy(), oriented, restore(weights, None, state.device), texts
            )
        restore(saved["weights"], dict(state.model.named_parameters()), state.device)
        restore(saved["buffers"], dict(state.model.named_buffers()), state.device)
        state.step, state.phase = saved["step"], saved["phase"]
        try:
            self._start_phase().load_state_dict(saved["optimizer"])
        except ValueError as error:
            raise CheckpointError(f"its optimizer differs: {error}") from error

    @property
    def trained_fraction(self) -> float:
        """Share of the model's parameters that an optimizer gets in any phase.

        Weights that child-tuning masks count as trained.
        """
        names = {name for phase in self.phases for name in phase.names}
        sizes = {name: p.numel() for name, p in self.state.model.named_parameters()}
        return sum(sizes[name] for name in names) / sum(sizes.values())


def begin(
    setting: Setting,
    data: Mapping[str, Encoded],
    loaded: Loaded,
    device: torch.device,
    *,
    heartbeat: Callable[[], None] = no_heartbeat,
) -> Fit:
    """Prepare a fit up to its first epoch.

    Args:
        setting: What to train.
        data: The task's splits.
        loaded: The pretrained checkpoint.
        device: Where to train.
        heartbeat: Called at every step and every batch that is read.
    """
    state = _prepare(setting, data["train"], loaded, device, heartbeat=heartbeat)
    phases = setting.technique.phases([Phase(state.recipe, state.trainable)], state)
    state.steps = sum(_steps(phase.recipe, data["train"]) for phase in phases)
    return Fit(setting, data, state, phases, loaded.processor, torch.zeros(2, device=device))


def schedule(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate's factor: warm-up, then decay or constant.

    Args:
        recipe: Its schedule, `warmup` and `hold`.
        step: Optimizer steps done in the phase, from 0.
        steps: Steps of the whole phase.

    Returns:
        A number in [0, 1]; the first step of a warm-up has 1/warm-up steps, not 0.
    """
    warm = round(recipe.warmup * steps)
    step = min(step, round(recipe.hold * steps))
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    left = (steps - step) / max(1, steps - warm)
    return left if recipe.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def predict(state: TrainState, data: Encoded) -> Outputs:
    """The model's outputs for every unit, in the order of the rows.

    Returns:
        Shape (n_units, n_outputs).
    """
    outputs = np.empty((data.units[-1], state.kind.outputs), np.float32)
    state.model.eval()
    with torch.inference_mode():
        for rows, batch in evaluation_batches(data, evaluated_together(state)):
            batch = _to_device(batch, state.device)
            units = state.kind.stored(state.forward(batch, targets=False), batch)
            indices = [np.arange(data.units[row], data.units[row + 1]) for row in rows]
            outputs[np.concatenate(indices)] = units.float().cpu().numpy()
            state.heartbeat()
    return outputs


def score(setting: Setting, read: Read, data: Encoded) -> float:
    """The deciding metric; NaN where it is undefined for what was read."""
    return setting.metric(data.gold, answers_of(setting.kind, read, data))


def answers_of(kind: Kind, read: Read, data: Encoded) -> Any:
    """The answers that metrics compare with `data.gold`, one per example."""
    answers = kind.answers(read.outputs, data)
    return answers if read.texts is None else kind.generated(answers, read.texts)


def _prepare(
    setting: Setting,
    train: Encoded,
    loaded: Loaded,
    device: torch.device,
    *,
    heartbeat: Callable[[], None],
) -> TrainState:
    recipe = setting.technique.recipe(setting.recipe)
    torch.set_num_threads(recipe.threads)
    model = loaded.fresh(setting.seed, recipe.dropout).to(device)

    def batches() -> Iterator[dict[str, Tensor]]:
        for _, batch in evaluation_batches(train, recipe.micro_batch_size or recipe.batch_size):
            heartbeat()
            yield _to_device(batch, device)

    depths = depths_of(model)
    state = TrainState(
        model,
        recipe,
        setting.seed,
        depths,
        device,
        setting.kind,
        batches,
        heartbeat=heartbeat,
        gradient_checkpointing=setting.savers.gradient_checkpointing,
    )
    # A module that a technique creates draws its values from the global generator.
    seed_global(derive(setting.seed, "head", "prepare"))
    setting.technique.weights(state)
    setting.technique.prepare(state)
    return state


def _batch_rows(data: Encoded, state: TrainState, *, epoch: int) -> list[Ints]:
    return training_rows(
        data,
        batch_size=state.recipe.batch_size,
        by_length=state.recipe.batches == "by_length",
        seed=state.seed,
        epoch=epoch,
    )


@contextmanager
def _evaluation_weights(technique: Technique, state: TrainState) -> Iterator[None]:
    own = dict(state.model.named_parameters())
    evaluated = technique.evaluated(dict(own), state)
    # Swaps the tensors inside the parameters, so that the optimizer keeps its references.
    swapped = {n: (own[n].data, t) for n, t in evaluated.items() if t is not own[n]}
    for name, (_, tensor) in swapped.items():
        own[name].data = tensor
    try:
        yield
    finally:
        for name, (tensor, _) in swapped.items():
            own[name].data = tensor


def _select(
    selected: SelectedEpoch | None, read: Read, dev: float, setting: Setting, state: TrainState
) -> SelectedEpoch:
    """The epoch whose weights count: the last one, or the first with the best dev score."""
    if state.recipe.checkpoint == "last":
        return SelectedEpoch(read.outputs, dev, None, read.texts)
    oriented = setting.metric.oriented(dev)
    oriented = oriented if np.isfinite(oriented) else -np.inf
    if selected is not None and oriented <= selected.oriented:
        return selected
    weights = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    return SelectedEpoch(read.outputs, oriented, weights, read.texts)


def _steps(recipe: Recipe, train: Encoded) -> int:
    return recipe.steps or recipe.epochs * _batches_per_epoch(recipe, train)


def _epochs(recipe: Recipe, train: Encoded) -> int:
    """Passes over the data, the last of which may end early."""
    if recipe.steps is None:
        return recipe.epochs
    return -(-recipe.steps // _batches_per_epoch(recipe, train))


def _batches_per_epoch(recipe: Recipe, train: Encoded) -> int:
    return -(-train.rows // recipe.batch_size)


def _to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
