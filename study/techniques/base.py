"""Base class of techniques: a frozen value with optional hooks into a training run.

The default hooks change nothing; a technique overrides only what differs. Hooks run in the order in
which they are defined here, and those of combined techniques in the order of `TECHNIQUES`.
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


def _methods(cls: type) -> set[str]:
    """Names of the public methods that a class defines itself."""
    return {name for name, part in vars(cls).items() if name[0] != "_" and isfunction(part)}


class Technique(Spec):
    """A fine-tuning technique. Subclass it directly, never one of its subclasses.

    Attributes:
        clashes: Names of techniques with which this one cannot be combined, and why; one of the two
            says so.
        no_export: Why a trained model cannot be exported as a plain `transformers` model, not even
            by `merge`; None where it can.
        needs_dropout: Whether it has no effect unless the passes of a batch differ.
        acts_as_dropout: Whether it makes passes differ itself; a combination then skips the
            `recipe` hook of a technique that needs dropout.
        drops_moments: Whether weights that `active` freezes lose their optimizer states.

    Example:
        >>> from study import Recipe, Technique
        >>> class HalfRate(Technique):
        ...     def recipe(self, recipe):
        ...         return recipe.replace(lr=recipe.lr / 2)
        >>> HalfRate().recipe(Recipe(lr=2e-5)).lr
        1e-05
    """

    clashes: ClassVar[Mapping[str, str]] = {}
    no_export: ClassVar[str | None] = None
    needs_dropout: ClassVar[bool] = False
    acts_as_dropout: ClassVar[bool] = False
    drops_moments: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse fields that hide a hook, misspelt hooks, and private attributes."""
        if hidden := set(cls.model_fields) & {n for n in vars(Technique) if not n.startswith("_")}:
            raise TypeError(f"{cls.__name__}: field {min(hidden)!r} is the name of a hook")
        if own := cls.__private_attributes__:
            text = "what changes in a run belongs in `state.memo`, else it is lost on resuming"
            raise TypeError(f"{cls.__name__}: {min(own)!r}: {text}")
        hooks, methods = _methods(Technique), _methods(cls)
        for name in sorted(
            methods - hooks
        ):  # a misspelt hook is never called, so the baseline would train
            if near := get_close_matches(name, hooks, n=1, cutoff=0.8):
                text = f"no such hook: {name!r}. Did you mean {near[0]!r}?"
                raise TypeError(f"{cls.__name__}: {text}")

    @classmethod
    def name(cls) -> str:
        """The class name; `module:Class` for a user's technique, so that it can be imported."""
        built_in = cls.__module__.startswith("study.")
        return cls.__name__ if built_in else f"{cls.__module__}:{cls.__name__}"

    @property
    def title(self) -> str:
        """The technique without its values, such as `LayerwiseDecay`."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """The class and the values that are not at their default, such as `LayerwiseDecay(0.7)`."""
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
        # The baseline drops out, so that a sum with it has the key of the other alone.
        effective = [t for t in both if t.name() != "Standard"] or both
        parts = tuple(part for technique in effective for part in parts_of(technique))
        return Combined(parts=parts) if len(parts) > 1 else parts[0]

    # --- before training ---

    def objection(self, depths: Depths, kind: str) -> str | None:
        """Why this technique cannot be used on such a model and kind of task; None if it can."""
        return None

    def redrawn(self, depths: Depths) -> Collection[int]:
        """Depths that `weights` re-initialises; they must be trained."""
        return ()

    def frozen(self, depths: Depths) -> Collection[int]:
        """Depths that are never trained, as far as known before a model is loaded."""
        return ()

    def recipe(self, recipe: Recipe) -> Recipe:
        """Adjust the shared recipe; raises `SpecError` where it does not fit."""
        return recipe

    def starts(self, seed: Seed) -> Starts:
        """Start several times and continue with the best; once by default."""
        return Starts((seed,))

    def weights(self, state: TrainState) -> None:
        """Change values of weights, nothing else; after it `state.start` is fixed."""

    def prepare(self, state: TrainState) -> None:
        """Freeze, insert or wrap modules. Runs at every start, and again when a run resumes."""

    def phases(self, phases: list[Phase], state: TrainState) -> list[Phase]:
        """Split training into phases."""
        return phases

    # --- per phase, and again when a run resumes inside it ---

    def groups(self, groups: list[Group], state: TrainState) -> list[Group]:
        """Change the parameter groups; every trainable parameter must be in exactly one."""
        return groups

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer | None:
        """An optimizer instead of AdamW; None keeps AdamW.

        All its state must be in `state_dict` and be restored by `load_state_dict`.
        """
        return None

    # --- per step ---

    def active(self, names: Names, state: TrainState) -> Names:
        """Which of the phase's parameters are trained in this step."""
        return names

    def before_step(self, state: TrainState) -> None:
        """Act before the step's first forward pass."""

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Change the loss, a scalar.

        Techniques that replace the task's part of the loss come before those that add to it.

        Args:
            loss: The task's loss, after the hooks of earlier techniques.
            outputs: The model's outputs in the step's first pass; `state.forward` runs another.
            batch: The model's inputs.
            state: The run.
        """
        return loss

    def after_backward(self, state: TrainState) -> None:
        """Act on the gradients, after clipping."""

    def after_step(self, state: TrainState) -> None:
        """Act after the optimizer's step."""

    # --- evaluation ---

    def evaluated(self, weights: dict[str, Tensor], state: TrainState) -> dict[str, Tensor]:
        """The weights that evaluation and export use, by parameter name."""
        return weights

    def merge(self, model: nn.Module) -> None:
        """Merge what `prepare` inserted into the weights of the trained model, for export."""


class Combined(Technique):
    """A combination of techniques, written `A + B`; its parts act in the order of `TECHNIQUES`.

    Attributes:
        parts: The techniques, given in any order. None may appear twice or clash with another,
            and at most one may override each of `starts`, `phases`, `optimizer` and `evaluated`.

    Example:
        >>> from study import EMA, LoRA
        >>> combined = EMA() + LoRA(rank=4)
        >>> combined.label
        'LoRA(4) + EMA'
        >>> combined == LoRA(rank=4) + EMA()
        True
    """

    parts: tuple[Technique, ...]

    @field_validator("parts")
    @classmethod
    def _in_order(cls, parts: tuple[Technique, ...]) -> tuple[Technique, ...]:
        return tuple(sorted(parts, key=_rank))

    def model_post_init(self, context: Any, /) -> None:
        """Refuse repeated techniques, clashes, and hooks that only one part may set."""
        names = [part.name() for part in self.parts]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(" + ".join(names), [Mistake("", f"{name} appears twice.")])
        for part in self.parts:
            for other in sorted(set(part.clashes) & set(names)):
                text = f"{part.name()} cannot be combined with {other}: {part.clashes[other]}."
                raise SpecError(" + ".join(names), [Mistake("", text)])
        for hook in ("starts", "phases", "optimizer", "evaluated"):
            setters = [
                p.name()
                for p in self.parts
                if getattr(type(p), hook) is not getattr(Technique, hook)
            ]
            if len(setters) > 1:
                text = f"{' and '.join(setters)} both set the {hook}; only one can."
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
        """The first objection of any part, or that one freezes what another re-initialises."""
        first = next((o for part in self.parts if (o := part.objection(depths, kind))), None)
        return first or self._frozen_at_random(depths)

    def _frozen_at_random(self, depths: Depths) -> str | None:
        for drawing, freezing in permutations(self.parts, 2):
            if both := set(drawing.redrawn(depths)) & set(freezing.frozen(depths)):
                what = f"layer {max(both)}" if max(both) > 0 else "the embeddings"
                return f"{freezing.label} freezes {what} at the random values of {drawing.label}"
        return None

    def recipe(self, recipe: Recipe) -> Recipe:
        """Fold over the parts.

        Where a part acts as dropout, those that need dropout may not refuse a dropout of 0.
        """
        replaced = any(part.acts_as_dropout for part in self.parts)
        parts = [part for part in self.parts if not (part.needs_dropout and replaced)]
        return reduce(lambda recipe, part: part.recipe(recipe), parts, recipe)

    def starts(self, seed: Seed) -> Starts:
        """Those of the one part that sets them."""
        of_parts = (part.starts(seed) for part in self.parts)
        return next((starts for starts in of_parts if starts.epochs), Starts((seed,)))

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
        """That of the one part that sets it."""
        of_parts = (part.optimizer(groups, state) for part in self.parts)
        return next((optimizer for optimizer in of_parts if optimizer is not None), None)

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
        """Each part in turn, in reverse order of insertion."""
        for part in reversed(self.parts):
            part.merge(model)


def check_epochs(recipe: Recipe, title: str) -> None:
    """That a recipe counts epochs, as a technique with phases of epochs does.

    Raises:
        SpecError: If it counts steps.
    """
    if recipe.steps is not None:
        text = "counts epochs, and the recipe has `steps`; give it `epochs` instead."
        raise SpecError(title, [Mistake("epochs", text)])


def technique_from(data: Mapping[str, Any], known: Mapping[str, type[Technique]]) -> Technique:
    """The technique whose `canonical()` this is.

    Args:
        data: Its fields, with its name under `technique`.
        known: Built-in techniques, by name.

    Raises:
        LookupError: If there is no such technique.
    """
    name = data["technique"]
    if isinstance(name, list):
        return Combined(parts=tuple(technique_from(part, known) for part in name))
    if ":" in name:
        module, _, attribute = name.partition(":")
        technique = getattr(importlib.import_module(module), attribute)
    elif name in known:
        technique = known[name]
    else:
        raise LookupError(f"{name!r} is not a technique. {did_you_mean(name, known)}")
    if not (isinstance(technique, type) and issubclass(technique, Technique)):
        raise LookupError(f"{name!r} is not a technique")
    return technique(**{key: value for key, value in data.items() if key != "technique"})


def parts_of(technique: Technique) -> Sequence[Technique]:
    """The parts of a combined technique; any other technique alone."""
    return technique.parts if isinstance(technique, Combined) else [technique]


def chooses_by_step(technique: Technique) -> bool:
    """Whether the technique chooses in each step what it trains."""
    return any(type(part).active is not Technique.active for part in parts_of(technique))


def drops_moments(technique: Technique) -> bool:
    """Whether weights that the technique freezes for a step lose their optimizer states."""
    return any(part.drops_moments for part in parts_of(technique))


def not_exportable(technique: Technique) -> str | None:
    """Why a trained model cannot be exported as a plain `transformers` model; None where it can."""
    return next((part.no_export for part in parts_of(technique) if part.no_export), None)


def _rank(technique: Technique) -> tuple[int, str]:
    from study.techniques import (
        TECHNIQUES,
    )  # here, because the registry imports the techniques, which import this module

    order = list(TECHNIQUES)
    name = technique.name()
    return (order.index(name) if name in order else len(order), name)


def short(value: object) -> str:
    """A value as shown in labels."""
    return f"{value:g}" if isinstance(value, float) else str(value)
