"""A model in training: phases, epochs, steps, and what dev says after each epoch."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from study.core.recipe import Recipe
from study.core.seeding import Seed, derive, seed_global
from study.models.families import depths_of
from study.models.loading import Loaded
from study.tasks import metrics
from study.tasks.kinds import Kind, Outputs
from study.tasks.kinds.encoded import TARGETS, Encoded, evaluation_batches, training_batches
from study.techniques.base import Technique
from study.techniques.state import Group, Phase, TrainState, plain_groups, still
from study.training.checkpoint import digest, put
from study.training.tensor_file import CheckpointError, Tree

EVALUATION_BATCH = {"cpu": 16, "cuda": 128}  # by kind of device; rows rarely fill a CPU's caches


@dataclass(frozen=True)
class Setting:
    """One run as the training core needs it, free of files and names.

    Attributes:
        recipe: The configuration's recipe, before the technique's `recipe` hook.
        technique: What to do.
        seed: The three streams' seeds.
        metric: The deciding metric.
        kind: What the model's outputs mean.
    """

    recipe: Recipe
    technique: Technique
    seed: Seed
    metric: metrics.Metric
    kind: Kind


class Kept(NamedTuple):
    """The epoch that counts so far.

    Attributes:
        logits: Its dev outputs.
        oriented: Its dev score, higher is better.
        weights: Its weights; None where they are the model's own.
    """

    logits: Outputs
    oriented: float
    weights: dict[str, Tensor] | None


def _optimizer(
    technique: Technique, state: TrainState
) -> tuple[torch.optim.Optimizer, list[Group]]:
    groups: list[Group] = technique.groups(plain_groups(state), state)
    placed = [name for group in groups for name in group.names]
    for name in state.trainable:
        if placed.count(name) != 1:
            where = "no group" if name not in placed else "several groups"
            raise ValueError(
                f"{name!r} is in {where}; groups() must name every parameter trainable in this "
                "phase exactly once"
            )
    optimizer = technique.optimizer(groups, state) or torch.optim.AdamW(
        [state.parameters(group) for group in groups],
        betas=state.recipe.betas,
        eps=state.recipe.eps,
        fused=True,
    )
    return optimizer, groups


@dataclass
class Fit:
    """One start of a run, and how far it is.

    Attributes:
        setting: What to train.
        data: The task's splits.
        state: The model with all that its training needs.
        phases: The stretches of training.
        losses: `train/loss` per epoch so far.
        scores: The dev score per epoch so far.
        totals: Over the rows of the epoch so far, the sum of what is minimised and of the task's
            own loss; shape (2,).
        kept: The epoch that counts so far; None before the first, and once the run has diverged.
        plain_loss: The task's own mean loss over the last epoch.
        stepping: Seconds spent in training steps.
    """

    setting: Setting
    data: Mapping[str, Encoded]
    state: TrainState
    phases: list[Phase]
    totals: Tensor
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    kept: Kept | None = None
    plain_loss: float = math.nan
    stepping: float = 0.0
    _groups: list[Group] = field(default_factory=list, init=False)
    _optimizer: torch.optim.Optimizer | None = field(default=None, init=False)  # of the phase

    @property
    def standing(self) -> tuple[float, float]:
        """What starts are compared by: the last dev score, then the last training loss.

        Small dev sets often tie. Higher is better; -inf where undefined or diverged.
        """
        if self.kept is None or not np.isfinite(self.scores[-1]):
            return -math.inf, -math.inf
        return self.setting.metric.oriented(self.scores[-1]), -self.losses[-1]

    @property
    def over(self) -> bool:
        """Whether no epoch is left, or the last one diverged."""
        diverged = bool(self.losses) and self.kept is None
        return diverged or len(self.losses) == self._epochs_before(len(self.phases))

    def epochs(self, stepped: Callable[[], None] = still) -> Iterator[None]:
        """Train on; stops after every epoch, and for good where a loss or output is not finite.

        Args:
            stepped: Called after every optimizer step, where the fit can be saved.
        """
        while not self.over:
            if len(self.losses) == self._epochs_before(self.state.phase + 1):
                self.state.phase += 1
                self._optimizer = None
            self._epoch(self._optimizer or self._enter(), stepped)
            with _evaluated(self.setting.technique, self.state):
                self._evaluate()
            if self.kept is None:
                return
            yield

    def _epochs_before(self, phase: int) -> int:
        return sum(phase.recipe.epochs for phase in self.phases[:phase])

    def _enter(self) -> torch.optim.Optimizer:
        """Begin the phase, or come back to it."""
        state, phase = self.state, self.phases[self.state.phase]
        state.recipe = phase.recipe
        _learn(state, phase.names)
        self._optimizer, self._groups = _optimizer(self.setting.technique, state)
        return self._optimizer

    def _epoch(self, optimizer: torch.optim.Optimizer, stepped: Callable[[], None]) -> None:
        """All batches of an epoch, or those that are left of it."""
        state, train, phase = self.state, self.data["train"], self.phases[self.state.phase]
        before = sum(_steps(earlier.recipe, train) for earlier in self.phases[: state.phase])
        epochs = len(self.losses) - self._epochs_before(state.phase)
        begun = before + epochs * _batches_of(phase.recipe, train)
        steps = _steps(phase.recipe, train)
        started = time.perf_counter()
        state.model.train()
        for batch in _batches(train, state, epoch=len(self.losses), skip=state.step - begun):
            factor = schedule(phase.recipe, state.step - before, steps)
            for mine, group in zip(optimizer.param_groups, self._groups, strict=True):
                mine["lr"] = group.lr * factor
            state.rates = {name: g.lr * factor for g in self._groups for name in g.names}
            losses = _step(self.setting.technique, state, phase, optimizer, batch)
            self.totals += torch.stack(losses) * len(next(iter(batch.values())))
            self.stepping += time.perf_counter() - started
            state.beat()
            stepped()
            started = time.perf_counter()
        minimised, self.plain_loss = (self.totals / train.rows).tolist()
        self.totals.zero_()
        self.losses.append(minimised)
        self.stepping += time.perf_counter() - started

    def _evaluate(self) -> None:
        outputs = predict(self.state, self.data["dev"])
        if not (np.isfinite(self.losses[-1]) and np.isfinite(outputs).all()):
            self.kept = None
            return
        self.scores.append(score(self.setting, outputs, self.data["dev"]))
        self.kept = _keep(self.kept, outputs, self.scores[-1], self.setting, self.state)

    def final(self) -> Outputs | None:
        """Give the model the weights that count, and read test once; None where it diverged."""
        if self.kept is None:
            return None
        counted = self.kept.weights
        if counted is None:
            own: dict[str, Tensor] = dict(self.state.model.named_parameters())
            counted = self.setting.technique.evaluated(own, self.state)
        for name, parameter in self.state.model.named_parameters():
            parameter.data = counted[name].detach()
        outputs = predict(self.state, self.data["test"])
        return outputs if np.isfinite(outputs).all() else None

    def place(self) -> dict[str, Tree]:
        """All of a fit between two steps that `begin` does not make again."""
        state, model = self.state, self.state.model
        learning = {name for phase in self.phases for name in phase.names}
        weights = {name: p for name, p in model.named_parameters() if name in learning}
        frozen = {name: p for name, p in model.named_parameters() if name not in learning}
        kept = self.kept
        return {
            "seed": list(self.setting.seed),
            "step": state.step,
            "phase": state.phase,
            "losses": self.losses,
            "scores": self.scores,
            "totals": self.totals,
            "plain_loss": self.plain_loss,
            "stepping": self.stepping,
            "kept": [torch.from_numpy(kept.logits), *kept[1:]] if kept else None,
            "groups": [list(astuple(group)) for group in self._groups],
            "optimizer": self._optimizer.state_dict() if self._optimizer else None,
            "weights": weights,
            "buffers": dict(model.named_buffers()),
            "memo": state.memo,
            "start": state.start_read,
            # Not written: it is made again. But it must then be the same.
            "rest": digest([frozen, state.fixed, state.start if state.start_read else None]),
        }

    def put(self, place: dict[str, Tree]) -> None:
        """Go to where another process was; for a fit that has just begun.

        Raises:
            CheckpointError: If this fit is not like the other.
        """
        state = self.state
        if place["start"]:
            _ = state.start  # while the weights are still those of the start
        put(place["memo"], state.memo, state.device)
        put(place["totals"], self.totals, state.device)
        self.losses, self.scores = place["losses"], place["scores"]
        self.plain_loss, self.stepping = place["plain_loss"], place["stepping"]
        if place["kept"]:
            logits, oriented, weights = place["kept"]
            self.kept = Kept(logits.numpy(), oriented, put(weights, None, state.device))
        put(place["weights"], dict(state.model.named_parameters()), state.device)
        put(place["buffers"], dict(state.model.named_buffers()), state.device)
        state.step, state.phase = place["step"], place["phase"]
        try:
            self._enter().load_state_dict(place["optimizer"])
        except ValueError as error:
            raise CheckpointError(f"its optimizer is another: {error}") from error

    @property
    def trained_fraction(self) -> float:
        """Share of the model's parameters that any phase gives to an optimizer.

        Child-tuning masks inside them, and its masked weights count.
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
    beat: Callable[[], None] = still,
) -> Fit:
    """A fit before its first epoch; `beat` is called wherever it moves."""
    state = _prepared(setting, data["train"], loaded, device, beat=beat)
    phases = setting.technique.phases([Phase(state.recipe, state.trainable)], state)
    state.steps = sum(_steps(phase.recipe, data["train"]) for phase in phases)
    return Fit(setting, data, state, phases, torch.zeros(2, device=device))


def schedule(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate's factor, a pure function of the step in its phase.

    Args:
        recipe: Gives shape, warm-up and where the rate is held.
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
    return (steps - step) / max(1, steps - warm)


def predict(state: TrainState, data: Encoded) -> Outputs:
    """Outputs for every unit, in the order of the rows.

    Returns:
        Shape (n_units, n_outputs).
    """
    outputs = np.empty((data.units[-1], state.kind.outputs), np.float32)
    state.model.eval()
    with torch.inference_mode():
        for rows, batch in evaluation_batches(data, EVALUATION_BATCH[state.device.type]):
            batch = _to(batch, state.device)
            inputs = {name: t for name, t in batch.items() if name not in TARGETS}  # no loss
            units = state.kind.units(state.forward(inputs), batch)
            places = [np.arange(data.units[row], data.units[row + 1]) for row in rows]
            outputs[np.concatenate(places)] = units.float().cpu().numpy()
            state.beat()
    return outputs


def score(setting: Setting, outputs: Outputs, data: Encoded) -> float:
    """The deciding metric; NaN where it is undefined for these outputs."""
    return setting.metric(data.gold, setting.kind.answers(outputs, data))


def _prepared(
    setting: Setting,
    train: Encoded,
    loaded: Loaded,
    device: torch.device,
    *,
    beat: Callable[[], None],
) -> TrainState:
    recipe = setting.technique.recipe(setting.recipe)
    torch.set_num_threads(recipe.threads)
    model = loaded.fresh(setting.seed, recipe.dropout).to(device)

    def batches() -> Iterator[dict[str, Tensor]]:
        for _, batch in evaluation_batches(train, recipe.batch_size):
            beat()
            yield _to(batch, device)

    depths = depths_of(model)
    state = TrainState(
        model, recipe, setting.seed, depths, device, setting.kind, batches, beat=beat
    )
    # A module that a technique makes draws its values globally.
    seed_global(derive(setting.seed, "head", "prepare"))
    setting.technique.weights(state)
    setting.technique.prepare(state)
    return state


def _learn(state: TrainState, names: tuple[str, ...]) -> None:
    chosen = set(names)
    for name, parameter in state.model.named_parameters():
        if parameter.requires_grad != (name in chosen):
            parameter.requires_grad_(name in chosen)
            parameter.grad = None


def _batches(
    data: Encoded, state: TrainState, *, epoch: int, skip: int
) -> Iterator[dict[str, Tensor]]:
    recipe = state.recipe
    for batch in training_batches(
        data,
        batch_size=recipe.batch_size,
        by_length=recipe.batches == "by_length",
        seed=state.seed,
        epoch=epoch,
        skip=skip,
    ):
        yield _to(batch, state.device)


def _step(
    technique: Technique,
    state: TrainState,
    phase: Phase,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """One optimizer step: the loss that was minimised, and the task's own."""
    state.reseed()
    if type(technique).active is not Technique.active:
        _learn(state, technique.active(phase.names, state))
    technique.before_step(state)
    outputs = state.forward(batch)
    plain = outputs.loss.detach()
    loss: Tensor = technique.loss(outputs.loss, outputs, batch, state)
    loss.backward()  # type: ignore[no-untyped-call]
    if state.recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.recipe.clip_norm)
    technique.after_backward(state)
    optimizer.step()
    optimizer.zero_grad()
    state.step += 1
    technique.after_step(state)
    return loss.detach(), plain


@contextmanager
def _evaluated(technique: Technique, state: TrainState) -> Iterator[None]:
    own = dict(state.model.named_parameters())
    counted = technique.evaluated(dict(own), state)
    swapped = {n: (own[n].data, t) for n, t in counted.items() if t is not own[n]}
    for name, (_, tensor) in swapped.items():
        own[name].data = tensor
    try:
        yield
    finally:
        for name, (tensor, _) in swapped.items():
            own[name].data = tensor


def _keep(
    kept: Kept | None, logits: Outputs, dev: float, setting: Setting, state: TrainState
) -> Kept:
    """What counts so far: the last epoch, or the one with the best dev score."""
    if state.recipe.checkpoint == "last":
        return Kept(logits, dev, None)
    oriented = setting.metric.oriented(dev)
    oriented = oriented if np.isfinite(oriented) else -np.inf
    if kept is not None and oriented <= kept.oriented:
        return kept
    weights = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    return Kept(logits, oriented, weights)


def _steps(recipe: Recipe, train: Encoded) -> int:
    return recipe.epochs * _batches_of(recipe, train)


def _batches_of(recipe: Recipe, train: Encoded) -> int:
    return -(-train.rows // recipe.batch_size)


def _to(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
