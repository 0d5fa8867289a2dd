"""Mixout: dropout whose dropped weights fall back to their start instead of to zero."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from study.core.recipe import Recipe
from study.techniques.base import Technique
from study.techniques.state import TrainState


class Mixout(Technique):
    """Swap random weights for their pretrained values in every training pass.

    Each pass of a linear layer below the head uses (M W + (1 - M) W0 - p W0) / (1 - p), where M
    keeps a weight with probability 1 - p and W0 is where training started. Its expectation is W,
    and evaluation uses W itself.

    Attributes:
        p: Probability of a swap, in [0, 1); 0 swaps nothing.
        mask: Draw M for each `element`, or for each `column`, which swaps whole input features.
        keep_dropout: Leave the recipe's dropout on; otherwise mixout replaces it everywhere,
            attention included.

    Source: Lee et al. 2020; p as in the scripts of Zhang et al. 2021 and of Du & Nguyen 2023.
        Differs: the widely copied code swaps columns alone, leaves 1 / (1 - p) out of the
        gradient, mixes the new head with its random start, and keeps the dropout that fused
        attention is given as a number.
    """

    clashes = dict.fromkeys(
        ("Adapters", "BitFit", "LoRA"), "it freezes the weights that mixout swaps"
    )

    acts_as_dropout: ClassVar[bool] = True

    p: float = Field(default=0.1, ge=0.0, lt=1.0)
    mask: Literal["element", "column"] = "element"
    keep_dropout: bool = False

    def recipe(self, recipe: Recipe) -> Recipe:
        """No other dropout, unless it is kept."""
        return recipe if self.keep_dropout else recipe.replace(dropout=0.0)

    def prepare(self, state: TrainState) -> None:
        """Replace the linear layers below the head; their parameters and names stay."""
        if self.p == 0.0:
            return  # adding and subtracting the start would round
        for path, module in list(state.model.named_modules()):
            name = f"{path}.weight"
            if isinstance(module, nn.Linear) and state.depths.of(name) < state.depths.head:
                mixed = MixedLinear(module, state.start[name], self.p, self.mask)
                state.model.set_submodule(path, mixed)


class MixedLinear(nn.Linear):
    """A linear layer that mixes its weight with a fixed one while it trains."""

    def __init__(
        self, plain: nn.Linear, start: Tensor, p: float, mask: Literal["element", "column"]
    ) -> None:
        """Take over a layer's parameters.

        Args:
            plain: The layer to stand in for.
            start: Shape (out, in), the other weight.
            p: Probability of the other weight.
            mask: Per element, or one draw per input feature.
        """
        super().__init__(plain.in_features, plain.out_features, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.start = start  # no buffer: nothing changes it, so nothing saves it
        self.p = p
        self.mask = mask

    def forward(self, input: Tensor) -> Tensor:
        """Shape (..., in) to (..., out)."""
        if not self.training:
            return super().forward(input)
        # Rearranged, mixout is the usual dropout of what was learnt, and drawn like any other:
        # from the global generator, so that a technique which repeats a pass repeats the mask.
        learnt = self.weight - self.start  # (out, in)
        if self.mask == "element":
            learnt = functional.dropout(learnt, self.p)
        else:
            learnt = learnt * functional.dropout(torch.ones_like(learnt[:1]), self.p)
        return functional.linear(input, self.start + learnt, self.bias)
