"""What a technique is: a frozen value with optional hooks into one run.

The base class passes everything through; a technique overrides only what differs. Hooks run in
the order in which they stand here, and for combined techniques in the order of `TECHNIQUES`.
"""

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce
from inspect import isfunction
from itertools import permutations
from typing import Any, ClassVar

import torch
from pydantic import field_validator, model_serializer
from torch import Tensor, nn

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.core.spec import Invalid, Mistake, Spec, SpecError, did_you_mean
from study.models.families import Depths
from study.techniques.state import Group, Names, Phase, Starts, TrainState


def _methods(kind: type) -> set[str]:
    """The public methods that a class defines itself."""
    return {name for name, part in vars(kind).items() if name[0] != "_" and isfunction(part)}


class Technique(Spec):
    """A way of fine-tuning. Subclass it once, never a subclass of it.

    Attributes:
        clashes: Techniques, by name, with which this one has no meaning, and why; one of the two
            says so.
        no_export: Why a model it trained is no plain `transformers` model, and cannot be made one
            by `merge`; None where it can.
        needs_dropout: Whether it has no meaning where a batch's passes are all the same.
        acts_as_dropout: Whether it tells the passes apart itself; in a combination, the `recipe`
            hook of what needs dropout is then not asked.
    """

    clashes: ClassVar[Mapping[str, str]] = {}
    no_export: ClassVar[str | None] = None
    needs_dropout: ClassVar[bool] = False
    acts_as_dropout: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse what hides a hook or misspells one, and values of its own beside the fields."""
        if hidden := set(cls.model_fields) & {n for n in vars(Technique) if not n.startswith("_")}:
            raise TypeError(f"{cls.__name__}: field {min(hidden)!r} is the name of a hook")
        if own := cls.__private_attributes__:
            text = "what changes in a run belongs in `state.memo`, or is lost where a run resumes"
            raise TypeError(f"{cls.__name__}: {min(own)!r}: {text}")
        hooks, methods = _methods(Technique), _methods(cls)
        for name in sorted(methods - hooks):  # nobody would call it, and the baseline would train
            if near := get_close_matches(name, hooks, n=1, cutoff=0.8):
                text = f"no such hook: {name!r}. Did you mean {near[0]!r}?"
                raise TypeError(f"{cls.__name__}: {text}")

    @classmethod
    def name(cls) -> str:
        """The class name; a user's own technique is `module:Class`, so that it can be found."""
        own = cls.__module__.startswith("study.")
        return cls.__name__ if own else f"{cls.__module__}:{cls.__name__}"

    @property
    def title(self) -> str:
        """The technique without its values: `LayerwiseDecay`."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """As people read it: the class and the values that are set, `LayerwiseDecay(0.7)`."""
        values = self.canonical()
        values.pop("technique")
        if not values:
            return type(self).__name__
        if len(values) == 1:
            return f"{type(self).__name__}({short(next(iter(values.values())))})"
        inside = ", ".join(f"{name}={short(value)}" for name, value in values.items())
        return f"{type(self).__name__}({inside})"

    @model_serializer(mode="wrap")
    def _with_name(self, fields: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {"technique": self.name(), **fields(self)}

    def __add__(self, other: "Technique | Invalid") -> "Technique":
        if isinstance(other, Invalid):
            return NotImplemented
        both = [self, other]
        adding = [t for t in both if t.name() != "Standard"] or both  # the baseline adds no key
        parts = tuple(part for technique in adding for part in parts_of(technique))
        return Combined(parts=parts) if len(parts) > 1 else parts[0]

    # --- before training ---

    def objection(self, depths: Depths, kind: str) -> str | None:
        """Why this technique cannot be used on such a model and kind of task; None if it can."""
        return None

    def redrawn(self, depths: Depths) -> Collection[int]:
        """The depths that `weights` gives random values; those must train."""
        return ()

    def frozen(self, depths: Depths) -> Collection[int]:
        """The depths that never train, where that is known before a model is loaded."""
        return ()

    def recipe(self, recipe: Recipe) -> Recipe:
        """Adjust the shared recipe; raises `SpecError` where it does not fit."""
        return recipe

    def starts(self, seed: Seed) -> Starts:
        """Begin several times and go on with the best; once by default."""
        return Starts((seed,))

    def weights(self, state: TrainState) -> None:
        """Change values only; after it `state.start` is fixed."""

    def prepare(self, state: TrainState) -> None:
        """Freeze, insert, wrap. Runs on every start, and again where a run resumes."""

    def phases(self, phases: list[Phase], state: TrainState) -> list[Phase]:
        """Split training into stretches."""
        return phases

    # --- per phase, and again where a run resumes inside it ---

    def groups(self, groups: list[Group], state: TrainState) -> list[Group]:
        """Rearrange the groups; every trainable parameter stays in exactly one."""
        return groups

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer | None:
        """Another optimizer than AdamW; None keeps it.

        What it changes must be in its `state_dict`, and come back by `load_state_dict`.
        """
        return None

    # --- per step ---

    def active(self, names: Names, state: TrainState) -> Names:
        """Which of the phase's parameters learn in this step."""
        return names

    def before_step(self, state: TrainState) -> None:
        """Act before the step's first forward pass."""

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Change the loss, a scalar; `outputs` is the first pass, `state.forward` runs another.

        In `TECHNIQUES`, what replaces the task's part comes before what adds to it.
        """
        return loss

    def after_backward(self, state: TrainState) -> None:
        """Act on gradients, which are whole and clipped."""

    def after_step(self, state: TrainState) -> None:
        """Act once the optimizer has moved."""

    # --- evaluation ---

    def evaluated(self, weights: dict[str, Tensor], state: TrainState) -> dict[str, Tensor]:
        """The weights that evaluations and exports read, by parameter name."""
        return weights

    def merge(self, model: nn.Module) -> None:
        """Fold what `prepare` inserted into the model's own weights, once it is trained."""


class Combined(Technique):
    """Several techniques at once; `A + B` makes it, in the order of `TECHNIQUES`.

    Attributes:
        parts: The techniques, in whatever order they are given; none twice, at most one of them
            overriding each of `starts`, `phases`, `optimizer` and `evaluated`, and none clashing
            with another.
    """

    parts: tuple[Technique, ...]

    @field_validator("parts")
    @classmethod
    def _in_order(cls, parts: tuple[Technique, ...]) -> tuple[Technique, ...]:
        return tuple(sorted(parts, key=_rank))

    def model_post_init(self, context: Any, /) -> None:
        """Refuse combinations without meaning."""
        names = [part.name() for part in self.parts]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(" + ".join(names), [Mistake("", f"{name} is in it twice.")])
        for part in self.parts:
            for other in sorted(set(part.clashes) & set(names)):
                text = f"{part.name()} has no meaning with {other}: {part.clashes[other]}."
                raise SpecError(" + ".join(names), [Mistake("", text)])
        for hook in ("starts", "phases", "optimizer", "evaluated"):
            having = [
                p.name()
                for p in self.parts
                if getattr(type(p), hook) is not getattr(Technique, hook)
            ]
            if len(having) > 1:
                text = f"{' and '.join(having)} both set the {hook}; only one can."
                raise SpecError(" + ".join(names), [Mistake("", text)])

    @property
    def title(self) -> str:
        """The parts' titles, joined."""
        return " + ".join(part.title for part in self.parts)

    @property
    def label(self) -> str:
        """The parts' labels, joined."""
        return " + ".join(part.label for part in self.parts)

    @model_serializer(mode="plain")
    def _as_parts(self) -> dict[str, Any]:
        return {"technique": [part.canonical() for part in self.parts]}

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The first objection of any part, or that one freezes what another draws anew."""
        own = next((o for part in self.parts if (o := part.objection(depths, kind))), None)
        return own or self._stuck(depths)

    def _stuck(self, depths: Depths) -> str | None:
        for drawing, freezing in permutations(self.parts, 2):
            if both := set(drawing.redrawn(depths)) & set(freezing.frozen(depths)):
                what = f"layer {max(both)}" if max(both) > 0 else "the embeddings"
                return f"{freezing.label} freezes {what} at the random values of {drawing.label}"
        return None

    def recipe(self, recipe: Recipe) -> Recipe:
        """Fold over the parts that have something to say; dropout of 0 may be another's choice."""
        instead = any(part.acts_as_dropout for part in self.parts)
        asked = [part for part in self.parts if not (part.needs_dropout and instead)]
        return reduce(lambda recipe, part: part.recipe(recipe), asked, recipe)

    def starts(self, seed: Seed) -> Starts:
        """The one part's that has its own."""
        each = (part.starts(seed) for part in self.parts)
        return next((starts for starts in each if starts.epochs), Starts((seed,)))

    def weights(self, state: TrainState) -> None:
        """Each part in turn."""
        for part in self.parts:
            part.weights(state)

    def prepare(self, state: TrainState) -> None:
        """Each part in turn."""
        for part in self.parts:
            part.prepare(state)

    def phases(self, phases: list[Phase], state: TrainState) -> list[Phase]:
        """Fold over the parts."""
        return reduce(lambda phases, part: part.phases(phases, state), self.parts, phases)

    def groups(self, groups: list[Group], state: TrainState) -> list[Group]:
        """Fold over the parts."""
        return reduce(lambda groups, part: part.groups(groups, state), self.parts, groups)

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer | None:
        """The one part's that has its own."""
        made = (part.optimizer(groups, state) for part in self.parts)
        return next((optimizer for optimizer in made if optimizer is not None), None)

    def active(self, names: Names, state: TrainState) -> Names:
        """Fold over the parts."""
        return reduce(lambda names, part: part.active(names, state), self.parts, names)

    def before_step(self, state: TrainState) -> None:
        """Each part in turn."""
        for part in self.parts:
            part.before_step(state)

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Fold over the parts."""
        return reduce(lambda loss, part: part.loss(loss, outputs, batch, state), self.parts, loss)

    def after_backward(self, state: TrainState) -> None:
        """Each part in turn."""
        for part in self.parts:
            part.after_backward(state)

    def after_step(self, state: TrainState) -> None:
        """Each part in turn."""
        for part in self.parts:
            part.after_step(state)

    def evaluated(self, weights: dict[str, Tensor], state: TrainState) -> dict[str, Tensor]:
        """Fold over the parts."""
        return reduce(lambda weights, part: part.evaluated(weights, state), self.parts, weights)

    def merge(self, model: nn.Module) -> None:
        """Each part in turn, the last inserted first."""
        for part in reversed(self.parts):
            part.merge(model)


def technique_from(data: Mapping[str, Any], known: Mapping[str, type[Technique]]) -> Technique:
    """The technique that `canonical()` wrote.

    Args:
        data: Its fields and its name under `technique`.
        known: The techniques that may be named without a module.

    Raises:
        LookupError: If there is no such technique.
    """
    name = data["technique"]
    if isinstance(name, list):
        return Combined(parts=tuple(technique_from(part, known) for part in name))
    if ":" in name:
        module, _, attribute = name.partition(":")
        kind = getattr(importlib.import_module(module), attribute)
    elif name in known:
        kind = known[name]
    else:
        raise LookupError(f"{name!r} is not a technique. {did_you_mean(name, known)}")
    if not (isinstance(kind, type) and issubclass(kind, Technique)):
        raise LookupError(f"{name!r} is not a technique")
    return kind(**{key: value for key, value in data.items() if key != "technique"})


def parts_of(technique: Technique) -> Sequence[Technique]:
    """The techniques that a combined one is made of; of any other, itself."""
    return technique.parts if isinstance(technique, Combined) else [technique]


def not_exportable(technique: Technique) -> str | None:
    """Why `transformers` has no plain model of what this technique trains; None where it has."""
    return next((part.no_export for part in parts_of(technique) if part.no_export), None)


def _rank(technique: Technique) -> tuple[int, str]:
    from study.techniques import TECHNIQUES  # the dict imports the classes, which import this file

    order = list(TECHNIQUES)
    name = technique.name()
    return (order.index(name) if name in order else len(order), name)


def short(value: object) -> str:
    """A value as it stands in a label."""
    return f"{value:g}" if isinstance(value, float) else str(value)
