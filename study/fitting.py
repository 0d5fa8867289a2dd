"""A model in training: phases, epochs, steps, and what dev says after each epoch."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from study import metrics
from study.batches import TARGETS, Encoded, evaluation_batches, training_batches
from study.kinds import Kind, Outputs
from study.models import Loaded, depths_of
from study.seeding import Seed, derive, seed_global
from study.spec import Recipe
from study.techniques.base import Group, Phase, Technique, TrainState, plain_groups

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
        kept: The epoch that counts so far; None before the first, and once the run has diverged.
        plain_loss: The task's own mean loss over the last epoch.
        stepping: Seconds spent in training steps.
    """

    setting: Setting
    data: Mapping[str, Encoded]
    state: TrainState
    phases: list[Phase]
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    kept: Kept | None = None
    plain_loss: float = math.nan
    stepping: float = 0.0

    @property
    def standing(self) -> tuple[float, float]:
        """What starts are compared by: the last dev score, then the last training loss.

        Small dev sets often tie. Higher is better; -inf where undefined or diverged.
        """
        if self.kept is None or not np.isfinite(self.scores[-1]):
            return -math.inf, -math.inf
        return self.setting.metric.oriented(self.scores[-1]), -self.losses[-1]

    def epochs(self) -> Iterator[None]:
        """Train on; stops after every epoch, and for good where a loss or output is not finite."""
        state, technique = self.state, self.setting.technique
        lengths = [_steps(phase.recipe, self.data["train"]) for phase in self.phases]
        state.steps = sum(lengths)
        for phase, steps in zip(self.phases, lengths, strict=True):
            state.recipe = phase.recipe
            _learn(state, phase.names)
            optimizer, groups = _optimizer(technique, state)
            done = 0
            for _ in range(phase.recipe.epochs):
                started = time.perf_counter()
                state.model.train()
                # Of what is minimised, and of the task alone.
                totals = torch.zeros(2, device=state.device)
                for batch in _batches(self.data["train"], state, epoch=len(self.losses)):
                    factor = schedule(phase.recipe, done, steps)
                    for mine, group in zip(optimizer.param_groups, groups, strict=True):
                        mine["lr"] = group.lr * factor
                    state.rates = {name: g.lr * factor for g in groups for name in g.names}
                    losses = _step(technique, state, phase, optimizer, batch)
                    totals += torch.stack(losses) * len(next(iter(batch.values())))
                    done += 1
                minimised, self.plain_loss = (totals / self.data["train"].rows).tolist()
                self.losses.append(minimised)
                self.stepping += time.perf_counter() - started
                with _evaluated(technique, state):
                    self._evaluate()
                if self.kept is None:
                    return
                yield

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

    @property
    def trained_fraction(self) -> float:
        """Share of the model's parameters that any phase gives to an optimizer.

        Child-tuning masks inside them, and its masked weights count.
        """
        names = {name for phase in self.phases for name in phase.names}
        sizes = {name: p.numel() for name, p in self.state.model.named_parameters()}
        return sum(sizes[name] for name in names) / sum(sizes.values())


def begin(
    setting: Setting, data: Mapping[str, Encoded], loaded: Loaded, device: torch.device
) -> Fit:
    """A fit before its first epoch."""
    state = _prepared(setting, data["train"], loaded, device)
    phases = setting.technique.phases([Phase(state.recipe, state.trainable)], state)
    return Fit(setting, data, state, phases)


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
    return outputs


def score(setting: Setting, outputs: Outputs, data: Encoded) -> float:
    """The deciding metric; NaN where it is undefined for these outputs."""
    return setting.metric(data.gold, setting.kind.answers(outputs, data))


def _prepared(setting: Setting, train: Encoded, loaded: Loaded, device: torch.device) -> TrainState:
    recipe = setting.technique.recipe(setting.recipe)
    torch.set_num_threads(recipe.threads)
    model = loaded.fresh(setting.seed, recipe.dropout).to(device)

    def batches() -> Iterator[dict[str, Tensor]]:
        return (_to(batch, device) for _, batch in evaluation_batches(train, recipe.batch_size))

    depths = depths_of(model)
    state = TrainState(model, recipe, setting.seed, depths, device, setting.kind, batches)
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


def _batches(data: Encoded, state: TrainState, epoch: int) -> Iterator[dict[str, Tensor]]:
    recipe = state.recipe
    for batch in training_batches(
        data,
        batch_size=recipe.batch_size,
        by_length=recipe.batches == "by_length",
        seed=state.seed,
        epoch=epoch,
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
    return recipe.epochs * -(-train.rows // recipe.batch_size)


def _to(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
