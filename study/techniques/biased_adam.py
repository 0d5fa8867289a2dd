"""Adam without bias correction, as in the original BERT code, and without warm-up."""

from collections.abc import Callable
from typing import Any

import torch

from study.core.recipe import Recipe
from study.techniques.base import Technique
from study.techniques.state import Group, TrainState


class BiasedAdam(Technique):
    """Leave out Adam's bias correction and the warm-up; the literature's known-bad baseline.

    The moments are used uncorrected, so early steps are larger than the learning rate implies: by
    (1 - beta1^t) / sqrt(1 - beta2^t), which is 3.2 at the first step and 6.5 near the tenth.

    Example:
        >>> from study import BiasedAdam, Recipe
        >>> BiasedAdam().recipe(Recipe(warmup=0.1)).warmup
        0.0

    Source: Zhang et al. 2021, BERTAdam; Mosbach et al. 2021. Differs: they keep the warm-up;
        here it is left out too, the setting in which most failed runs were seen.
    """

    def recipe(self, recipe: Recipe) -> Recipe:
        """No warm-up."""
        return recipe.replace(warmup=0.0)

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer:
        """AdamW with uncorrected moments."""
        return UncorrectedAdamW(
            [state.parameters(group) for group in groups],
            betas=state.recipe.betas,
            eps=state.recipe.eps,
        )


class UncorrectedAdamW(torch.optim.Optimizer):
    """theta -= lr * m / (sqrt(v) + eps), after decoupled weight decay."""

    def __init__(
        self, groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = [p.grad for p in weights]
            for p in weights:
                if not self.state[p]:
                    self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            m = [self.state[p]["m"] for p in weights]
            v = [self.state[p]["v"] for p in weights]
            beta1, beta2 = group["betas"]
            torch._foreach_lerp_(m, gradients, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, gradients, gradients, 1 - beta2)
            scale = torch._foreach_sqrt(v)
            torch._foreach_add_(scale, group["eps"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_addcdiv_(weights, m, scale, -group["lr"])
