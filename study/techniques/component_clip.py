"""Component-wise clipping: each part's gradient is kept to a norm of its own."""

import torch
from pydantic import Field
from torch import Tensor

from study.core.recipe import Recipe
from study.techniques.base import Technique
from study.techniques.state import TrainState


class ComponentClip(Technique):
    """Clip the gradient of each component by itself instead of that of the whole model.

    A component is a module with weights of its own in one layer: a map to queries, an output map,
    a norm, an embedding table; its weight and bias are clipped together. One that has exploding
    gradients then no longer shrinks the steps of all others.

    Attributes:
        max_norm: Largest gradient norm of a component.

    Source: Yang & Ma 2022, component-wise gradient norm clipping. Differs: they may draw components
        wider than a layer; the default is chosen here.
    """

    max_norm: float = Field(default=0.1, gt=0.0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """No global clipping."""
        return recipe.replace(clip_norm=None)

    def after_backward(self, state: TrainState) -> None:
        """Scale the gradients of components that are above the norm."""
        gradients: list[Tensor] = []
        places: dict[str, int] = {}
        owners: list[int] = []
        for name, parameter in state.model.named_parameters():
            if parameter.grad is not None:
                gradients.append(parameter.grad)
                owners.append(places.setdefault(name.rpartition(".")[0], len(places)))
        index = torch.tensor(owners, device=state.device)
        squares = torch.stack(torch._foreach_norm(gradients)).square()
        norms = squares.new_zeros(len(places)).index_add_(0, index, squares).sqrt()
        scales = (self.max_norm / norms).clamp(max=1.0)[index]
        torch._foreach_mul_(gradients, list(scales.unbind()))
