"""RecAdam: anneal from recalling the pretrained weights to learning the task."""

from collections.abc import Callable, Mapping
from math import sqrt, tanh
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError
from study.techniques.base import Technique
from study.techniques.state import Group, TrainState


class RecAdam(Technique):
    """Anneal from a strong pull towards the pretrained weights to the task's own updates.

    lam(t) = 1 / (1 + exp(-k (t - t0))) rises from 0 to 1. Below the head, Adam's step is scaled by
    lam, and after it w -= lr * (1 - lam) * gamma * (w - w0). Parameters that were not pretrained,
    in the head or inserted by another technique, use plain AdamW.

    Attributes:
        k: Slope of the sigmoid, per optimizer step.
        t0: Where lam is 0.5, as a share of the run's steps.
        gamma: Strength of the pull; lr * gamma must stay below 2, or the pull overshoots and grows.

    Example:
        >>> from study import RecAdam
        >>> RecAdam(gamma=1000.0).label
        'RecAdam(1000)'

    Source: Chen et al. 2020 for the update and gamma; k is the middle of their grid. Differs: they
        give t0 in steps (100 to 1,000 of some 10,000), which short tasks do not have, so the share
        is chosen here; weight decay comes first, as in torch's AdamW; a pretrained pooler belongs
        to the head.
    """

    k: float = Field(default=0.2, gt=0.0)
    t0: float = Field(default=0.1, ge=0.0, le=1.0)
    gamma: float = Field(default=5000.0, ge=0.0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Refuse a learning rate at which the pull is unstable."""
        self._check(recipe.lr)
        return recipe

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer:
        """AdamW with anchors below the head."""
        start = state.start  # read at the start, even where a first phase trains the head alone
        anchors: dict[Tensor, Tensor] = {}
        for group in groups:
            if group.depth < state.depths.head:
                self._check(group.lr)  # a phase or another technique may have raised the rate
                pulled = [name for name in group.names if name in start]
                anchors.update({state.model.get_parameter(name): start[name] for name in pulled})
        return RecallingAdamW(
            [state.parameters(group) for group in groups],
            anchors=anchors,
            betas=state.recipe.betas,
            eps=state.recipe.eps,
            gamma=self.gamma,
            share=lambda: annealed(state.step + 1, k=self.k, t0=self.t0 * state.steps),
        )

    def _check(self, lr: float) -> None:
        if lr * self.gamma >= 2.0:
            text = f"{self.gamma:g} times the learning rate {lr:g} is not below 2."
            raise SpecError("RecAdam", [Mistake("gamma", text)])


def annealed(t: float, *, k: float, t0: float) -> float:
    """1 / (1 + exp(-k (t - t0))), by tanh, which does not overflow far below t0."""
    return 0.5 + 0.5 * tanh(k * (t - t0) / 2)


class RecallingAdamW(torch.optim.Optimizer):
    """AdamW whose update is mixed with a pull towards an anchor, for parameters that have one."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        anchors: Mapping[Tensor, Tensor],
        betas: tuple[float, float],
        eps: float,
        gamma: float,
        share: Callable[[], float],
    ) -> None:
        """Create the optimizer.

        Args:
            groups: Parameter groups in torch's format.
            anchors: Target of each pulled parameter; not in `state_dict`, as they never change.
            betas: Decay of Adam's two moments.
            eps: Adam's denominator.
            gamma: Strength of the pull.
            share: Returns the task's share in this step, in [0, 1].
        """
        super().__init__(groups, {"betas": betas, "eps": eps})
        self._anchors = anchors
        self._gamma = gamma
        self._share = share

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        share = self._share()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if not self.state[p]:
                    self.state[p] = {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
                self.state[p]["step"] += 1
            gradients = [p.grad for p in weights]
            m, v, steps = ([self.state[p][name] for p in weights] for name in ("m", "v", "step"))
            beta1, beta2 = group["betas"]
            lr, anchors = group["lr"], [self._anchors.get(p) for p in weights]
            torch._foreach_lerp_(m, gradients, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, gradients, gradients, 1 - beta2)
            scale = torch._foreach_sqrt(v)
            torch._foreach_div_(scale, [sqrt(1 - beta2**t) for t in steps])
            torch._foreach_add_(scale, group["eps"])
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            rates = [lr if anchor is None else lr * share for anchor in anchors]
            factors = [-rate / (1 - beta1**t) for rate, t in zip(rates, steps, strict=True)]
            torch._foreach_addcdiv_(weights, m, scale, factors)
            pulled = [w for w, a in zip(weights, anchors, strict=True) if a is not None]
            if pulled:
                pull = lr * (1 - share) * self._gamma
                torch._foreach_lerp_(pulled, [a for a in anchors if a is not None], pull)
