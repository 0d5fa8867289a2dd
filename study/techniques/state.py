"""What techniques see of a run: names, groups, phases, state."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from study.core.recipe import Recipe
from study.core.seeding import Seed, Stream, derive, seed_global, torch_rng
from study.models.families import Depths, in_norm
from study.tasks.kinds import Kind

Names = tuple[str, ...]


def still() -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own recipe, schedule and trainable parameters.

    Attributes:
        recipe: Its epochs, learning rate, schedule and warm-up count for this phase alone.
        names: Parameters that train in it.
    """

    recipe: Recipe
    names: Names


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate and a weight decay.

    Attributes:
        names: Parameters, by name.
        depth: Their depth, as in `models.Depths`.
        lr: Peak learning rate.
        weight_decay: Decoupled.
    """

    names: Names
    depth: int
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Starts:
    """Where a run starts: once, or several times, of which the best on dev goes on.

    Attributes:
        seeds: The seeds of each start.
        epochs: After how many the starts are compared.
    """

    seeds: tuple[Seed, ...]
    epochs: int = 0


@dataclass(slots=True)  # an attribute of a technique's own would be lost where a run resumes
class TrainState:
    """What hooks see of one run.

    A run may stop after any optimizer step and go on in another process: `weights`, `prepare` and
    `phases` run again, and of the phase that trains `groups` and `optimizer`; then parameters,
    buffers, the optimizer's `state_dict` and `memo` become what they were. So what a technique
    changes while it trains belongs in one of those places.

    Attributes:
        model: The task model.
        recipe: The run's recipe, after the `recipe` hook; in a phase, that phase's.
        seed: The run's seeds.
        depths: The depth of every parameter.
        device: Where the model is.
        kind: The kind of task: what the model's outputs mean.
        batches: Called, the training rows batch by batch, in an order that is always the same.
        step: Optimizer steps done, over all phases.
        steps: Optimizer steps of the whole run; 0 until the phases are known.
        rates: The learning rate of every trainable parameter in this step, by name.
        memo: What changes during a run, under the technique's name: numbers, texts and tensors, in
            lists, tuples and dicts.
        fixed: What `prepare` makes and nothing changes, under the technique's name; of the same
            kinds. A checkpoint leaves it out, as it does `start`.
        phase: Which phase trains, from 0.
        beat: Called at every step and every batch of an evaluation; call it in long work of one's
            own, so that a run is not taken for one that hangs.
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
    beat: Callable[[], None] = still
    _start: dict[str, Tensor] | None = field(default=None, init=False, repr=False)
    _own: frozenset[int] = field(init=False, repr=False)
    _drawn_from: dict[str, torch.Generator] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Note which parameters are the model's own, before `prepare` inserts any or renames."""
        self._own = frozenset(id(parameter) for parameter in self.model.parameters())

    @property
    def trainable(self) -> Names:
        """Parameters that require a gradient."""
        return tuple(n for n, p in self.model.named_parameters() if p.requires_grad)

    @property
    def start(self) -> dict[str, Tensor]:
        """The weights that others pull towards: as training found them, after `weights`.

        What `prepare` inserted has no start: its first values are no pretraining.
        """
        if self._start is None:
            if self.step > 0:
                raise RuntimeError("`start` is read for the first time after training has begun")
            named = self.model.named_parameters()
            self._start = {name: p.detach().clone() for name, p in named if id(p) in self._own}
        return self._start

    @property
    def start_read(self) -> bool:
        """Whether any technique has asked for `start`; it takes a copy of the weights."""
        return self._start is not None

    def freeze(self, names: Iterable[str]) -> None:
        """Exclude parameters from training for the whole run."""
        for name in names:
            self.model.get_parameter(name).requires_grad_(False)

    def rng(self, stream: Stream, *purpose: str | int) -> torch.Generator:
        """A generator of the caller's own; name the technique first in `purpose`."""
        return torch_rng(self.seed, stream, *purpose)

    def device_rng(self, stream: Stream, *purpose: str | int) -> torch.Generator:
        """As `rng`, but on the device: for what is drawn in every step, too slow on a CPU."""
        return torch.Generator(self.device).manual_seed(derive(self.seed, stream, *purpose))

    def pass_rng(self, name: str) -> torch.Generator:
        """A generator for what every pass draws, as dropout does from the global ones.

        It starts anew in each step, and `repeated` repeats it.

        Args:
            name: The technique's.
        """
        rng = self._drawn_from[name] = self.device_rng("noise", name, self.step)
        return rng

    def reseed(self) -> None:
        """Put all generators that passes draw from where they start in this step."""
        seed_global(derive(self.seed, "noise", self.step))
        for name, rng in self._drawn_from.items():
            rng.manual_seed(derive(self.seed, "noise", name, self.step))

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Inside, passes draw what the step's first ones drew; what comes after is not moved."""
        devices = range(torch.cuda.device_count()) if self.device.type == "cuda" else ()
        places = [(rng, rng.get_state()) for rng in self._drawn_from.values()]
        with torch.random.fork_rng(devices):
            self.reseed()
            try:
                yield
            finally:
                for rng, place in places:
                    rng.set_state(place)

    def forward(
        self, batch: Mapping[str, Tensor], *, weights: Mapping[str, Tensor] | None = None
    ) -> Any:
        """The model's outputs for a batch, `loss` among them where the batch has labels.

        Args:
            batch: The model's inputs.
            weights: Parameters, by name, that stand in for the model's own in this pass.
        """
        bf16 = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            if weights is None:
                return self.model(**batch)
            return functional_call(self.model, dict(weights), kwargs=dict(batch))

    def parameters(self, group: Group) -> dict[str, Any]:
        """A group as torch's optimizers take it."""
        tensors = [self.model.get_parameter(name) for name in group.names]
        return {"params": tensors, "lr": group.lr, "weight_decay": group.weight_decay}


def plain_groups(state: TrainState) -> list[Group]:
    """The groups before any technique: by depth, norms and biases without weight decay."""
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
