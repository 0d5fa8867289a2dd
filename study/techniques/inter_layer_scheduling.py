"""Inter-layer scheduling: in every step train only the weight tensors that move most."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from study.models.families import in_norm, lies_under
from study.techniques.base import Technique
from study.techniques.state import Names, TrainState

Memo = dict[str, Any]

NAME = "InterLayerScheduling"
UNVISITED = 1e10  # scale of the scores that tensors begin with, far above any real one
TINY = 1e-8  # weights below it are left out of relative changes


class InterLayerScheduling(Technique):
    """Freeze most weight tensors in every step; which ones is chosen anew from their last updates.

    A *unit* is one weight tensor: a matrix, a table, or the gain of a norm inside a layer or the
    embeddings. Biases and the final norm always train. The score of a unit is the mean relative
    change of its weights in the last step that trained it, |w' - w| / |w|; int(freeze_rate * units)
    units with the lowest scores are frozen. Units begin with huge random scores, so that training
    opens with a sweep over all of them. A frozen matrix needs neither its input for the backward
    pass nor a gradient; moments of the optimizer stay as they are.

    With warm-up a score is divided by the learning rate of its step: otherwise units that were
    visited at a low rate would never be chosen again.

    Attributes:
        freeze_rate: Share of the units that are frozen in a step, in (0, 1).
        selection: `score` as above. To judge it by: `random` units in every step, all in turn
            (`round_robin`), or the same random ones throughout (`static`).
        metric: Of `score`: `relative`, the mean relative change, or `ratio`, the summed change
            divided by the summed weights, which weights near zero do not dominate.

    Example:
        >>> from study import InterLayerScheduling
        >>> InterLayerScheduling(freeze_rate=0.9).label
        'InterLayerScheduling(0.9)'

    Source: Ardakani et al. 2023, SlimFit, whose activations are not compressed here; units, scores
        and selection as in their code. Differs: weights near zero are left out of a score, and one
        that is not finite is not taken, since such units would train for ever; scores are divided
        by the learning rate where there is warm-up.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "BitFit": "it leaves no weight tensors to choose from",
    }

    freeze_rate: float = Field(gt=0.0, lt=1.0)
    selection: Literal["score", "random", "round_robin", "static"] = "score"
    metric: Literal["relative", "ratio"] = "relative"

    def active(self, names: Names, state: TrainState) -> Names:
        """The chosen units, and all that is no unit."""
        memo = self._memo(state)
        units = [name for name in names if name in memo["scores"]]
        frozen = set(self._lowest(units, memo, state))
        for name in units:
            if name not in frozen:
                memo["visits"][name] += 1
        return tuple(name for name in names if name not in frozen)

    def before_step(self, state: TrainState) -> None:
        """Copy the units that this step trains, to score them."""
        memo = self._memo(state)
        if self.selection != "score":
            return
        memo["before"] = {
            name: parameter.detach().clone()
            for name, parameter in state.model.named_parameters()
            if parameter.requires_grad and name in memo["scores"]
        }

    @torch.no_grad()
    def after_step(self, state: TrainState) -> None:
        """Score the units that this step trained, in one transfer from the device."""
        memo = self._memo(state)
        before: Mapping[str, Tensor] = memo.pop("before", {})
        if not before:
            return
        changes = [
            _change(old, state.model.get_parameter(name), self.metric)
            for name, old in before.items()
        ]
        by_rate = state.recipe.warmup > 0
        for name, score in zip(before, torch.stack(changes).tolist(), strict=True):
            rate = state.rates[name] if by_rate else 1.0
            if rate > 0 and 0 < score < float("inf"):
                memo["scores"][name] = score / rate

    def _memo(self, state: TrainState) -> Memo:
        """Scores and visits by unit, drawn before the first step."""
        if NAME not in state.memo:
            units = units_of(state)
            rng = state.rng("noise", NAME)
            drawn = torch.rand(len(units), generator=rng, dtype=torch.float64) * UNVISITED
            scores = dict(zip(units, drawn.tolist(), strict=True))
            state.memo[NAME] = {"scores": scores, "visits": dict.fromkeys(units, 0)}
        memo: Memo = state.memo[NAME]
        return memo

    def _lowest(self, units: Sequence[str], memo: Memo, state: TrainState) -> Sequence[str]:
        """The units to freeze."""
        pitch = int(self.freeze_rate * len(units))
        match self.selection:
            case "random":
                rng = state.rng("noise", NAME, state.step)
                order = [units[i] for i in torch.randperm(len(units), generator=rng).tolist()]
            case "round_robin":  # the most often visited first, of equals the first
                order = sorted(units, key=lambda name: -memo["visits"][name])
            case _:  # a stable sort: of equals the first is frozen
                order = sorted(units, key=lambda name: memo["scores"][name])
        return order[:pitch]


def units_of(state: TrainState) -> list[str]:
    """The units of a model, trained or not, in the order of its parameters."""
    family = state.depths.family
    final = [f"{family.body}.{family.final_norm}"] if family.final_norm else []
    return [
        name
        for name, parameter in state.model.named_parameters()
        if parameter.ndim > 1
        or (
            in_norm(state.model, name)
            and name.rpartition(".")[2] == "weight"
            and not lies_under(name, final)
        )
    ]


def _change(old: Tensor, new: Tensor, metric: str) -> Tensor:
    """The change of a unit by one step, a scalar; 0 where no weight counts."""
    moved, size = (new - old).abs(), old.abs()
    if metric == "ratio":
        return moved.sum() / size.sum()
    counted = size >= TINY
    return torch.where(counted, moved / size.clamp(min=TINY), 0.0).sum() / old.numel()
