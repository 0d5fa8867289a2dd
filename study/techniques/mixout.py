"""Mixout: dropout that replaces weights by their pretrained values instead of zero."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from study.core.recipe import Recipe
from study.techniques.base import Technique
from study.techniques.state import TrainState


class Mixout(Technique):
    """Replace random weights by their pretrained values in every training pass.

    Each pass of a linear layer below the head uses (M W + (1 - M) W0 - p W0) / (1 - p), where M
    keeps a weight with probability 1 - p and W0 is the weight before training. Its expectation is
    W, and evaluation uses W itself.

    Attributes:
        p: Probability of a replacement, in [0, 1); 0 replaces nothing.
        mask: Draw M per `element`, or per `column`, which replaces whole input features.
        keep_dropout: Keep the recipe's dropout; otherwise mixout replaces it everywhere, attention
            included.

    Example:
        >>> from study import Mixout, Recipe
        >>> Mixout(p=0.5).recipe(Recipe(dropout=0.1)).dropout
        0.0

    Source: Lee et al. 2020; p as in the scripts of Zhang et al. 2021 and of Du & Nguyen 2023.
        Differs: the widely copied code replaces only columns, omits 1 / (1 - p) from the
        gradient, mixes the new head with its random initial values, and does not turn off the
        dropout of fused attention, which is an argument and not a module.
    """

    clashes = dict.fromkeys(
        ("Adapters", "BitFit", "LoRA"), "it freezes the weights that mixout mixes"
    )

    acts_as_dropout: ClassVar[bool] = True

    p: float = Field(default=0.1, ge=0.0, lt=1.0)
    mask: Literal["element", "column"] = "element"
    keep_dropout: bool = False

    def recipe(self, recipe: Recipe) -> Recipe:
        """Turn off other dropout unless `keep_dropout`."""
        return recipe if self.keep_dropout else recipe.replace(dropout=0.0)

    def prepare(self, state: TrainState) -> None:
        """Replace the linear layers below the head; parameters and their names stay the same."""
        if self.p == 0.0:
            return  # adding and subtracting the start would change bits by rounding
        for path, module in list(state.model.named_modules()):
            name = f"{path}.weight"
            if isinstance(module, nn.Linear) and state.depths.of(name) < state.depths.head:
                mixed = MixedLinear(module, state.start[name], self.p, self.mask)
                state.model.set_submodule(path, mixed)


class MixedLinear(nn.Linear):
    """A linear layer that mixes its weight with a fixed one in training mode."""

    def __init__(
        self, plain: nn.Linear, start: Tensor, p: float, mask: Literal["element", "column"]
    ) -> None:
        """Use the parameters of a linear layer.

        Args:
            plain: The layer to replace.
            start: The fixed weight, shape (out, in).
            p: Probability of the fixed weight.
            mask: One draw per element, or per input feature.
        """
        super().__init__(plain.in_features, plain.out_features, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.start = start  # no buffer: it never changes, so it need not be saved
        self.p = p
        self.mask = mask

    def forward(self, input: Tensor) -> Tensor:
        """From shape (..., in) to (..., out)."""
        if not self.training:
            return super().forward(input)
        # Rearranged, mixout is ordinary dropout of W - W0. It draws from the global generator like
        # any dropout, so that a technique that replays a pass replays the mask.
        delta = self.weight - self.start  # (out, in)
        if self.mask == "element":
            delta = functional.dropout(delta, self.p)
        else:
            delta = delta * functional.dropout(torch.ones_like(delta[:1]), self.p)
        return functional.linear(input, self.start + delta, self.bias)
