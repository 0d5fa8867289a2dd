"""The state of a run that technique hooks see: parameter groups, phases, starts, `TrainState`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from study.core.recipe import Recipe
from study.core.seeding import Seed, Stream, derive, seed_global, torch_rng
from study.models.families import Depths, in_norm
from study.models.gradient_checkpointing import checkpointed_layers
from study.tasks.kinds import Kind

Names = tuple[str, ...]


def no_heartbeat() -> None:
    """No-op heartbeat."""


@dataclass(frozen=True)
class Phase:
    """A part of training with its own recipe, schedule and trainable parameters.

    Attributes:
        recipe: Its epochs, learning rate, schedule and warm-up apply to this phase alone.
        names: Trainable parameters.
    """

    recipe: Recipe
    names: Names


@dataclass(frozen=True)
class Group:
    """A parameter group: one learning rate and one weight decay.

    Attributes:
        names: Parameter names.
        depth: Their depth, as in `Depths`.
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay.
    """

    names: Names
    depth: int
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Starts:
    """The starts of a run: one, or several of which the best on dev continues.

    Attributes:
        seeds: Seeds of each start.
        epochs: Number of epochs after which the starts are compared.
    """

    seeds: tuple[Seed, ...]
    epochs: int = 0


@dataclass(slots=True)  # slots: an attribute set by a technique would be lost on resuming
class TrainState:
    """What hooks see of one run.

    A run may stop after any optimizer step and continue in another process. There `weights`,
    `prepare` and `phases` run again, and for the current phase `groups` and `optimizer`; then
    parameters, buffers, the optimizer's `state_dict` and `memo` are restored. So whatever a
    technique changes during training must be in one of these four.

    Attributes:
        model: The task model.
        recipe: The run's recipe after the `recipe` hook; within a phase, that phase's.
        seed: The run's seeds.
        depths: The depth of every parameter.
        device: Where the model is.
        kind: The kind of task, which defines what the model's outputs mean.
        batches: Returns an iterator over the training rows in batches, always in the same order.
        step: Optimizer steps done, over all phases.
        steps: Optimizer steps of the whole run; 0 until the phases are known.
        rates: Learning rate of every trainable parameter in this step, by name.
        memo: State that changes during a run, under the technique's name: numbers, strings and
            tensors, in lists, tuples and dicts.
        fixed: State that `prepare` computes and nothing changes, under the technique's name; of the
            same types. A resumable checkpoint leaves it out, as it does `start`.
        phase: Index of the current phase, from 0.
        part: Index of the part of the batch that a pass is for, from 0; see `micro_batch_size`.
        heartbeat: Called at every step and every batch of an evaluation. A technique calls it in
            long work of its own, so that the run does not count as hanging.
        gradient_checkpointing: Whether passes save the inputs of layers only.
    """

    model: nn.Module
    recipe: Recipe
    seed: Seed
    depths: Depths
    device: torch.device
    kind: Kind
    batches: Callable[[], Iterator[dict[str, Tensor]]]
    step: int = 0
    steps: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    phase: int = 0
    part: int = 0
    heartbeat: Callable[[], None] = no_heartbeat
    gradient_checkpointing: bool = False
    _start: dict[str, Tensor] | None = field(default=None, init=False, repr=False)
    _original: frozenset[int] = field(init=False, repr=False)
    _pass_rngs: dict[str, torch.Generator] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Record the model's original parameters, before `prepare` inserts or renames any."""
        # By id, because `prepare` may rename parameters by wrapping their module.
        self._original = frozenset(id(parameter) for parameter in self.model.parameters())

    @property
    def trainable(self) -> Names:
        """Parameters that require a gradient."""
        return tuple(n for n, p in self.model.named_parameters() if p.requires_grad)

    @property
    def start(self) -> dict[str, Tensor]:
        """A copy of the weights before training, after the `weights` hooks; w0 in penalties.

        Parameters that `prepare` inserted are not in it, since they were not pretrained.
        """
        if self._start is None:
            if self.step > 0:
                raise RuntimeError("`start` is read for the first time after training has begun")
            named = self.model.named_parameters()
            self._start = {name: p.detach().clone() for name, p in named if id(p) in self._original}
        return self._start

    @property
    def start_read(self) -> bool:
        """Whether any technique has read `start`, which costs a copy of the weights."""
        return self._start is not None

    def freeze(self, names: Iterable[str]) -> None:
        """Exclude parameters from training for the whole run."""
        for name in names:
            self.model.get_parameter(name).requires_grad_(False)

    @property
    def now(self) -> tuple[int, ...]:
        """What distinguishes the draws of a pass: its step, and of several parts which one."""
        return (self.step, self.part) if self.part else (self.step,)

    def rng(self, stream: Stream, *purpose: str | int) -> torch.Generator:
        """A new CPU generator of a stream.

        Generators are not saved: one that is used during training has `step` in its purpose, or in
        a pass `*now`, so that a resumed run derives it again.

        Args:
            stream: The stream to draw from.
            *purpose: The technique's name, then what else distinguishes its draws.
        """
        return torch_rng(self.seed, stream, *purpose)

    def device_rng(self, stream: Stream, *purpose: str | int) -> torch.Generator:
        """As `rng`, but on the device: for draws in every step, which are too slow on a CPU."""
        return torch.Generator(self.device).manual_seed(derive(self.seed, stream, *purpose))

    def pass_rng(self, name: str) -> torch.Generator:
        """A generator for draws in every forward pass, like those of dropout.

        It is reseeded in each step, and `replayed_rng` replays it.

        Args:
            name: The technique's name.
        """
        rng = self._pass_rngs[name] = self.device_rng("noise", name, self.step)
        return rng

    def reseed(self) -> None:
        """Reseed all generators that forward passes draw from, for this step and part.

        Seeds are derived from their numbers, so no generator state has to be saved.
        """
        seed_global(derive(self.seed, "noise", *self.now))
        for name, rng in self._pass_rngs.items():
            rng.manual_seed(derive(self.seed, "noise", name, *self.now))

    @contextmanager
    def replayed_rng(self) -> Iterator[None]:
        """Within it, passes repeat the draws of the first pass, such as its dropout masks.

        Generators are put back at the end, so that later draws do not depend on it.
        """
        devices = range(torch.cuda.device_count()) if self.device.type == "cuda" else ()
        saved = [(rng, rng.get_state()) for rng in self._pass_rngs.values()]
        with torch.random.fork_rng(devices):
            self.reseed()
            try:
                yield
            finally:
                for rng, rng_state in saved:
                    rng.set_state(rng_state)

    def forward(
        self,
        batch: Mapping[str, Tensor],
        *,
        weights: Mapping[str, Tensor] | None = None,
        targets: bool = True,
    ) -> Any:
        """The model's outputs for a batch, with `loss` where it has targets.

        Args:
            batch: The model's inputs and targets.
            weights: Parameters, by name, that replace the model's own in this pass. It is not
                checkpointed, since its backward pass would recompute layers with the model's own.
            targets: Whether the model gets the targets; without them it computes no loss.
        """
        inputs = self.kind.inputs(batch, targets=targets)
        bf16 = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            if weights is not None:
                outputs = functional_call(self.model, dict(weights), kwargs=inputs)
            else:
                with self._checkpointed() if self.gradient_checkpointing else nullcontext():
                    outputs = self.model(**inputs)
        if targets and (loss := self.kind.loss(outputs, batch)) is not None:
            outputs.loss = loss
        return outputs

    def _checkpointed(self) -> AbstractContextManager[None]:
        generators = tuple(self._pass_rngs.values())
        return checkpointed_layers(self.model, self.depths, generators)

    def parameters(self, group: Group) -> dict[str, Any]:
        """A group in the format of torch's optimizers."""
        tensors = [self.model.get_parameter(name) for name in group.names]
        return {"params": tensors, "lr": group.lr, "weight_decay": group.weight_decay}


def plain_groups(state: TrainState) -> list[Group]:
    """The default groups: by depth, with norms and biases apart, which have no weight decay."""
    members: dict[tuple[int, bool], list[str]] = {}
    for name in state.trainable:
        members.setdefault((state.depths.of(name), _decays(state.model, name)), []).append(name)
    recipe = state.recipe
    return [
        Group(tuple(names), depth, recipe.lr, recipe.weight_decay if decays else 0.0)
        for (depth, decays), names in sorted(members.items())
    ]


def _decays(model: nn.Module, name: str) -> bool:
    return name.rpartition(".")[2] != "bias" and not in_norm(model, name)
