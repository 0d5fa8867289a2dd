"""One run, from pretrained weights to its outcome."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from study import metrics
from study.data import Encoded, evaluation_batches, training_batches
from study.memory import peak_memory, reset_peak_memory
from study.models import Loaded, depths_of
from study.seeding import Seed, derive, seed_global
from study.spec import Recipe
from study.techniques.base import Group, Phase, Technique, TrainState, plain_groups

EVALUATION_BATCH = 64
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """One run as the training core needs it, free of files and names.

    Attributes:
        recipe: The configuration's recipe, before the technique's `recipe` hook.
        technique: What to do.
        seed: The three streams' seeds.
        metric: The deciding metric.
        classes: Number of classes; None for regression.
    """

    recipe: Recipe
    technique: Technique
    seed: Seed
    metric: metrics.Metric
    classes: int | None


@dataclass
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
    logits: dict[str, Logits] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"


def train(
    job: Job,
    data: Mapping[str, Encoded],
    loaded: Loaded,
    device: torch.device,
) -> Outcome:
    """Fine-tune once.

    Args:
        job: What to train.
        data: The task's splits, tokenised for this checkpoint.
        loaded: The checkpoint.
        device: Where to train.

    Returns:
        The outcome; the same bits for the same job on one kind of device.
    """
    began = time.perf_counter()
    torch.set_num_threads(job.recipe.threads)
    reset_peak_memory(device)
    state = _prepared(job, loaded, device)
    names = state.trainable
    phases = job.technique.phases([Phase(state.recipe, names)], state)
    curves: dict[str, list[float]] = {"train/loss": [], f"dev/{job.metric.name}": []}
    best: tuple[float, dict[str, Tensor]] | None = None
    finite, epoch = True, 0
    stepping = 0.0

    for phase in phases:
        _enter(state, phase)
        optimizer, rates = _optimizer(job.technique, state)
        steps = phase.recipe.epochs * -(-len(data["train"].ids) // phase.recipe.batch_size)
        done = 0
        for _ in range(phase.recipe.epochs):
            started = time.perf_counter()
            state.model.train()
            total = torch.zeros((), device=device)
            for batch in _batches(data["train"], state, epoch):
                factor = schedule(phase.recipe, done, steps)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                loss = _step(job.technique, state, phase, optimizer, batch)
                total += loss * len(batch["labels"])
                done += 1
            curves["train/loss"].append(float(total) / len(data["train"].ids))
            stepping += time.perf_counter() - started
            epoch += 1
            dev = predict(job.technique, state, data["dev"])
            finite = bool(np.isfinite(curves["train/loss"][-1]) and np.isfinite(dev).all())
            if not finite:
                break
            curves[f"dev/{job.metric.name}"].append(score(job, dev, data["dev"]))
            best = _better(best, curves[f"dev/{job.metric.name}"][-1], job, state)
        if not finite:
            break

    facts = {
        "seconds": time.perf_counter() - began,
        "steps": float(state.step),
        "steps_per_second": state.step / stepping,
        "peak_memory_bytes": float(peak_memory(device)),
        "trained_fraction": _share(state, {name for phase in phases for name in phase.names}),
    }
    if not finite:
        return Outcome("diverged", curves=curves, facts=facts, device=device.type)
    if best is not None:
        state.model.load_state_dict(best[1], strict=False)
    outcome = _completed(job, state, data, curves, facts)
    outcome.facts["seconds"] = time.perf_counter() - began
    return outcome


def schedule(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate's factor, a pure function of the step in its phase.

    Args:
        recipe: Gives shape and warm-up.
        step: Optimizer steps done in the phase, from 0.
        steps: Steps of the whole phase.

    Returns:
        A number in [0, 1]; the first step of a warm-up has 1/warm-up steps, not 0.
    """
    warm = round(recipe.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return (steps - step) / max(1, steps - warm)


def predict(technique: Technique, state: TrainState, data: Encoded) -> Logits:
    """Outputs for every row, in the order of the rows, from the weights that count.

    Returns:
        Shape (n_examples, n_outputs).
    """
    parts: list[tuple[npt.NDArray[np.int64], Logits]] = []
    state.model.eval()
    with torch.inference_mode(), _evaluated(technique, state):
        for rows, batch in evaluation_batches(data, EVALUATION_BATCH):
            del batch["labels"]  # the loss is not needed
            logits = state.forward(_to(batch, state.device)).logits
            parts.append((rows, logits.float().cpu().numpy()))
    outputs = np.empty((len(data.ids), parts[0][1].shape[1]), np.float32)
    for rows, logits in parts:
        outputs[rows] = logits
    return outputs


def answers(job: Job, logits: Logits) -> metrics.Array:
    """Class ids or values from outputs, shape (n_examples,)."""
    if job.classes is None:
        return logits[:, 0].astype(np.float64)
    return logits.argmax(axis=1).astype(np.int64)


def score(job: Job, logits: Logits, data: Encoded) -> float:
    """The deciding metric; NaN where it is undefined for these outputs."""
    return job.metric(data.labels, answers(job, logits))


def _prepared(job: Job, loaded: Loaded, device: torch.device) -> TrainState:
    recipe = job.technique.recipe(job.recipe)
    model = loaded.fresh(job.seed, recipe.dropout).to(device)
    state = TrainState(model, recipe, job.seed, depths_of(model), device)
    job.technique.weights(state)
    job.technique.prepare(state)
    return state


def _enter(state: TrainState, phase: Phase) -> None:
    state.recipe = phase.recipe
    _learn(state, phase.names)


def _learn(state: TrainState, names: tuple[str, ...]) -> None:
    chosen = set(names)
    for name, parameter in state.model.named_parameters():
        parameter.requires_grad_(name in chosen)
        parameter.grad = None


def _optimizer(
    technique: Technique, state: TrainState
) -> tuple[torch.optim.Optimizer, list[float]]:
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
    return optimizer, [group.lr for group in groups]


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
) -> Tensor:
    seed_global(derive(state.seed, "noise", state.step))
    active = technique.active(phase.names, state)
    if active is not phase.names:
        _learn(state, active)
    technique.before_step(state)
    outputs = state.forward(batch)
    loss: Tensor = technique.loss(outputs.loss, outputs, batch, state)
    loss.backward()  # type: ignore[no-untyped-call]
    if state.recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.recipe.clip_norm)
    technique.after_backward(state)
    optimizer.step()
    optimizer.zero_grad()
    state.step += 1
    technique.after_step(state)
    return loss.detach()


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


def _better(
    best: tuple[float, dict[str, Tensor]] | None, dev: float, job: Job, state: TrainState
) -> tuple[float, dict[str, Tensor]] | None:
    if state.recipe.checkpoint == "last":
        return None
    oriented = dev if job.metric.higher_is_better else -dev
    oriented = oriented if np.isfinite(oriented) else -np.inf
    if best is not None and oriented <= best[0]:
        return best
    with _evaluated(job.technique, state):
        return oriented, {n: p.detach().clone() for n, p in state.model.named_parameters()}


def _completed(
    job: Job,
    state: TrainState,
    data: Mapping[str, Encoded],
    curves: dict[str, list[float]],
    facts: dict[str, float],
) -> Outcome:
    logits = {split: predict(job.technique, state, data[split]) for split in ("dev", "test")}
    floors = {s: metrics.floor(job.metric, data[s].labels, job.classes) for s in logits}
    scores = {s: score(job, logits[s], data[s]) for s in logits}
    rules = metrics.collapse_rules(
        job.metric,
        dev=scores["dev"],
        floor=floors["dev"],
        predicted=answers(job, logits["dev"]),
        train_loss=curves["train/loss"][-1],
        prior_loss=metrics.prior_loss(data["train"].labels, job.classes),
    )
    counted = {s: v if np.isfinite(v) else floors[s] for s, v in scores.items()}
    return Outcome(
        "completed",
        collapsed=rules,
        dev=counted["dev"],
        test=counted["test"],
        dev_floor=floors["dev"],
        test_floor=floors["test"],
        curves=curves,
        logits=logits,
        facts=facts,
        device=state.device.type,
    )


def _share(state: TrainState, names: set[str]) -> float:
    sizes = {name: p.numel() for name, p in state.model.named_parameters()}
    return sum(sizes[name] for name in names) / sum(sizes.values())


def _to(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
