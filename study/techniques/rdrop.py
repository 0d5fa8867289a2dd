"""R-Drop: penalise the divergence between two passes with different dropout masks."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError
from study.techniques.base import Technique
from study.techniques.passes import symmetric_divergence
from study.techniques.state import TrainState


class RDrop(Technique):
    """Pass each batch through the model twice and penalise the divergence of the outputs.

    loss = (CE1 + CE2) / 2 + alpha * (KL(p1 || p2) + KL(p2 || p1)) / 2, where the passes
    differ only by dropout, or by a technique that acts as dropout. All of it is the task's part of
    the loss, which `SupervisedContrastive` weights; penalties of other techniques are added to it.

    Attributes:
        alpha: Weight of the divergence; 0 leaves the mean loss of two passes.

    Example:
        >>> from study import RDrop
        >>> RDrop(alpha=0.5).label
        'RDrop(0.5)'

    Source: Liang et al. 2021, equation 4; alpha is 0.1, 0.5 or 1 on GLUE. Differs: the divergence
        is a mean over examples, as cross-entropy is, where the published sample sums it, so that
        alpha has the same meaning at every batch size; regression uses the squared difference.
    """

    needs_dropout: ClassVar[bool] = True

    alpha: float = Field(default=1.0, ge=0.0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Refuse a recipe that turns dropout off."""
        if recipe.dropout == 0.0:
            text = "RDrop needs dropout to make its passes differ, and the recipe's is 0."
            raise SpecError("RDrop", [Mistake("", text)])
        return recipe

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Replace the task's loss by the mean of two, and add the divergence.

        Raises:
            ValueError: In the first step that trains the body, if the passes do not differ; while a
                head is probed they need not.
        """
        body = state.model.get_submodule(state.depths.family.body)
        unchecked = body.training and "RDrop" not in state.memo
        before = _rng_state(state) if unchecked else None
        if unchecked:
            state.memo["RDrop"] = "checked"
        second = state.forward(batch)
        # Equal outputs alone prove nothing: mixout draws in the first step but changes nothing yet.
        if before is not None and torch.equal(before, _rng_state(state)):
            first_units, second_units = (state.kind.units(o, batch) for o in (outputs, second))
            if torch.equal(first_units, second_units):
                raise ValueError(
                    "RDrop needs dropout, and this model has none: both passes are equal. "
                    "Set the recipe's dropout, for example to 0.1"
                )
        mean: Tensor = loss + (second.loss - outputs.loss) / 2
        return mean + self.alpha / 2 * symmetric_divergence(outputs, second, batch, state)


def _rng_state(state: TrainState) -> Tensor:
    """State of the global generator that dropout draws from."""
    if state.device.type == "cuda":
        return torch.cuda.get_rng_state(state.device)
    return torch.get_rng_state()
