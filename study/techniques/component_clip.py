"""Component-wise gradient clipping: clip each module's gradient by its own norm."""

import torch
from pydantic import Field
from torch import Tensor

from study.core.recipe import Recipe
from study.techniques.base import Technique
from study.techniques.state import TrainState


class ComponentClip(Technique):
    """Clip the gradient of each component separately instead of that of the whole model.

    A component is a module with weights of its own, such as a query projection, an output
    projection, a norm or an embedding table; its weight and bias are clipped together. One with
    exploding gradients then no longer shrinks the steps of all others.

    Attributes:
        max_norm: Largest gradient norm of a component.

    Example:
        >>> from study import ComponentClip, Recipe
        >>> ComponentClip(max_norm=0.5).recipe(Recipe()).clip_norm is None
        True

    Source: Yang & Ma 2022, component-wise gradient norm clipping. Differs: their components may be
        wider than a layer; the default is chosen here.
    """

    max_norm: float = Field(default=0.1, gt=0.0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """No global clipping."""
        return recipe.replace(clip_norm=None)

    def after_backward(self, state: TrainState) -> None:
        """Scale down the gradients of components whose norm is too large."""
        gradients: list[Tensor] = []
        components: dict[str, int] = {}  # index by module name
        owners: list[int] = []  # index of the component, by gradient
        for name, parameter in state.model.named_parameters():
            if parameter.grad is not None:
                gradients.append(parameter.grad)
                owners.append(components.setdefault(name.rpartition(".")[0], len(components)))
        index = torch.tensor(owners, device=state.device)
        squares = torch.stack(torch._foreach_norm(gradients)).square()
        norms = squares.new_zeros(len(components)).index_add_(0, index, squares).sqrt()
        scales = (self.max_norm / norms).clamp(max=1.0)[index]
        torch._foreach_mul_(gradients, list(scales.unbind()))
