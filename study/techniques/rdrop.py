"""R-Drop: two passes under different dropout must agree."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError
from study.techniques.base import Technique
from study.techniques.passes import symmetric
from study.techniques.state import TrainState


class RDrop(Technique):
    """Pass each batch through the model twice and pull the two answers together.

    loss = (CE1 + CE2) / 2 + alpha * (KL(p1 || p2) + KL(p2 || p1)) / 2, where only dropout, or what
    stands in for it, tells the passes apart. All of it is the task's part of the loss, which
    `SupervisedContrastive` weighs; penalties of other techniques come on top.

    Attributes:
        alpha: Weight of the divergence; 0 leaves the mean of two passes.

    Source: Liang et al. 2021, equation 4; alpha is 0.1, 0.5 or 1 on GLUE. Differs: the divergence
        is a mean over examples, as cross-entropy is, where the published sample sums it, so that
        alpha means the same at every batch size; values take the squared difference.
    """

    needs_dropout: ClassVar[bool] = True

    alpha: float = Field(default=1.0, ge=0.0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Refuse a recipe that turns dropout off."""
        if recipe.dropout == 0.0:
            text = "RDrop needs dropout to tell its passes apart, and the recipe's is 0."
            raise SpecError("RDrop", [Mistake("", text)])
        return recipe

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Replace the task's loss by the mean of two, and add the divergence.

        Raises:
            ValueError: In the first step in which the body trains, if nothing tells the passes
                apart; while a head is probed, nothing in the body needs to.
        """
        body = state.model.get_submodule(state.depths.family.body)
        unchecked = body.training and "RDrop" not in state.memo
        before = _generator(state) if unchecked else None
        if unchecked:
            state.memo["RDrop"] = "checked"
        second = state.forward(batch)
        if before is not None and torch.equal(before, _generator(state)):
            one, two = (state.kind.units(each, batch) for each in (outputs, second))
            if torch.equal(one, two):  # what drops after the first step draws in it, as mixout does
                raise ValueError(
                    "RDrop needs dropout, and this model has none: both passes are equal. "
                    "Set the recipe's dropout, for example to 0.1"
                )
        mean: Tensor = loss + (second.loss - outputs.loss) / 2
        return mean + self.alpha / 2 * symmetric(outputs, second, batch, state)


def _generator(state: TrainState) -> Tensor:
    """Where the global generator is that dropout draws from."""
    if state.device.type == "cuda":
        return torch.cuda.get_rng_state(state.device)
    return torch.get_rng_state()
