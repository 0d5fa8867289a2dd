"""One run, from pretrained weights to its outcome."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from study import metrics
from study.batches import TARGETS, Encoded, evaluation_batches, training_batches
from study.kinds import Kind, Outputs
from study.memory import peak_memory, reset_peak_memory
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
        data: The task's splits, tokenised for this checkpoint.
        loaded: The checkpoint.
        device: Where to train.

    Returns:
        The outcome, the same bits for the same setting on one kind of device; and the model with
        the weights that count.
    """
    began = time.perf_counter()
    reset_peak_memory(device)
    state = _prepared(setting, data["train"], loaded, device)
    phases = setting.technique.phases([Phase(state.recipe, state.trainable)], state)
    lengths = [_steps(phase.recipe, data["train"]) for phase in phases]
    state.steps = sum(lengths)
    losses: list[float] = []
    scores: list[float] = []
    kept: Kept | None = None
    stepping, plain_loss = 0.0, math.nan

    for phase, steps in zip(phases, lengths, strict=True):
        state.recipe = phase.recipe
        _learn(state, phase.names)
        optimizer, groups = _optimizer(setting.technique, state)
        done = 0
        for _ in range(phase.recipe.epochs):
            started = time.perf_counter()
            state.model.train()
            totals = torch.zeros(2, device=device)  # of what is minimised, and of the task alone
            for batch in _batches(data["train"], state, epoch=len(losses)):
                factor = schedule(phase.recipe, done, steps)
                for mine, group in zip(optimizer.param_groups, groups, strict=True):
                    mine["lr"] = group.lr * factor
                state.rates = {name: g.lr * factor for g in groups for name in g.names}
                step_losses = _step(setting.technique, state, phase, optimizer, batch)
                totals += torch.stack(step_losses) * len(next(iter(batch.values())))
                done += 1
            minimised, plain = (totals / data["train"].rows).tolist()
            losses.append(minimised)
            stepping += time.perf_counter() - started
            with _evaluated(setting.technique, state):
                logits = predict(state, data["dev"])
                if not (np.isfinite(losses[-1]) and np.isfinite(logits).all()):
                    kept = None
                    break
                scores.append(score(setting, logits, data["dev"]))
                kept = _keep(kept, logits, scores[-1], setting, state)
                plain_loss = plain
        if kept is None:
            break

    test = None if kept is None else _final(kept, setting, state, data["test"])
    facts = {
        "seconds": time.perf_counter() - began,
        "steps": float(state.step),
        "steps_per_second": state.step / stepping,
        "peak_memory_bytes": float(peak_memory(device)),
        "trained_fraction": _share(state, {name for phase in phases for name in phase.names}),
    }
    curves = {"train/loss": losses, f"dev/{setting.metric.name}": scores}
    outcome = Outcome(
        "diverged",
        dev_floor=metrics.floor(setting.metric, setting.kind, data["dev"]),
        test_floor=metrics.floor(setting.metric, setting.kind, data["test"]),
        curves=curves,
        facts=facts,
        device=device.type,
    )
    if kept is not None and test is not None and np.isfinite(test).all():
        outputs = {"dev": kept.logits, "test": test}
        outcome = _completed(outcome, setting, data, outputs, plain_loss)
    return outcome, state.model


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
    oriented = dev if setting.metric.higher_is_better else -dev
    oriented = oriented if np.isfinite(oriented) else -np.inf
    if kept is not None and oriented <= kept.oriented:
        return kept
    weights = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    return Kept(logits, oriented, weights)


def _final(kept: Kept, setting: Setting, state: TrainState, test: Encoded) -> Outputs:
    """Give the model the weights that count, and read test once."""
    counted = kept.weights
    if counted is None:
        counted = setting.technique.evaluated(dict(state.model.named_parameters()), state)
    for name, parameter in state.model.named_parameters():
        parameter.data = counted[name].detach()
    return predict(state, test)


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


def _steps(recipe: Recipe, train: Encoded) -> int:
    return recipe.epochs * -(-train.rows // recipe.batch_size)


def _share(state: TrainState, names: set[str]) -> float:
    sizes = {name: p.numel() for name, p in state.model.named_parameters()}
    return sum(sizes[name] for name in names) / sum(sizes.values())


def _to(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
