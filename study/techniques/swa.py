"""SWA, stochastic weight averaging: evaluate the mean of the weights over the last steps."""

import torch
from pydantic import Field
from torch import Tensor

from study.core.recipe import Recipe
from study.techniques.base import Technique
from study.techniques.state import TrainState


class SWA(Technique):
    """Hold the learning rate towards the end and average the weights of all steps from there on.

    The schedule is the recipe's until averaging starts; from then on the rate is constant, so that
    the weights keep moving around the optimum and their mean is evaluated. Under a rate that falls
    to 0 they would hardly move, and the mean would be the last weights. Before averaging starts,
    evaluations use the weights themselves. Averages are float32, as the weights are. With `LoRA`
    the two factors are averaged, not their product.

    Attributes:
        start: Share of the steps after which averaging starts. In a run of several phases this is a
            share of all steps for the average, and of each phase's steps for the learning rate.

    Example:
        >>> from study import SWA, Recipe
        >>> SWA(start=0.5).recipe(Recipe()).hold
        0.5

    Source: Izmailov et al. 2018, who start after 75% of the budget. Differs: every step counts,
        not one per epoch, because few epochs remain; the constant rate follows from the schedule.
        There are no batch norms whose statistics would have to be recomputed.
    """

    start: float = Field(default=0.75, gt=0.0, lt=1.0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Hold the learning rate where averaging starts."""
        return recipe.replace(hold=self.start)

    def prepare(self, state: TrainState) -> None:
        """Average every parameter that is ever trained; a frozen one equals its average."""
        named = state.model.named_parameters()
        state.memo["SWA"] = {name: p.detach().clone() for name, p in named if p.requires_grad}

    @torch.no_grad()
    def after_step(self, state: TrainState) -> None:
        """Update the running mean."""
        count = state.step - round(self.start * state.steps)
        if count < 1:
            return
        averages: dict[str, Tensor] = state.memo["SWA"]
        weights: list[Tensor] = [state.model.get_parameter(name) for name in averages]
        torch._foreach_lerp_(list(averages.values()), weights, 1 / count)

    def evaluated(self, weights: dict[str, Tensor], state: TrainState) -> dict[str, Tensor]:
        """The averages, once averaging has started."""
        started = state.step > round(self.start * state.steps)
        return {**weights, **state.memo["SWA"]} if started else weights
