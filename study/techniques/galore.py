"""GaLore: Adam's moments of a projection of each gradient to a low rank."""

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from study.models.families import lies_under
from study.techniques.base import Technique
from study.techniques.state import Group, TrainState


class GaLore(Technique):
    """Train all weights, with moments of low rank for the weight matrices of the layers.

    Every `interval` steps the leading singular vectors of a matrix's gradient become its basis.
    Adam sees the gradient in that basis, and its update is projected back and scaled. All other
    weights have ordinary moments. A matrix of m x n, m <= n, has states of (m + 2n) * rank values
    instead of 2mn.

    Attributes:
        rank: Dimension of the projected gradients, the paper's r.
        interval: Optimizer steps between two bases of a matrix, the paper's T. Each costs a
            singular value decomposition per matrix; of each matrix the first is at its first step.
        scale: Factor of the projected updates, the paper's alpha.

    Example:
        >>> from study import GaLore
        >>> GaLore(rank=8).label
        'GaLore(8)'

    Source: Zhao et al. 2024, algorithm 2, in the library pytorch_optimizer; the defaults are those
        with which the authors' code fine-tunes RoBERTa on GLUE. As in their code moments are kept
        when the basis changes, weight decay follows the update, and eps is added before bias
        correction. Differs: each weight counts its own steps.
    """

    rank: int = Field(default=4, gt=0)
    interval: int = Field(default=500, gt=0)
    scale: float = Field(default=4.0, gt=0.0)

    def optimizer(self, groups: list[Group], state: TrainState) -> torch.optim.Optimizer:
        """GaLore for the matrices in layers, Adam for all else."""
        named = {n: state.model.get_parameter(n) for group in groups for n in group.names}
        layers, kept = range(1, state.depths.head), state.depths.kept_head
        return PlainGaLore(
            [state.parameters(group) for group in groups],
            {
                p
                for n, p in named.items()
                if p.ndim == 2 and state.depths.of(n) in layers and not lies_under(n, kept)
            },
            rank=self.rank,
            interval=self.interval,
            scale=self.scale,
            betas=state.recipe.betas,
            eps=state.recipe.eps,
        )


class PlainGaLore(torch.optim.Optimizer):
    """GaLore of pytorch_optimizer, applied weight by weight, with states of tensors and numbers.

    The library keeps a basis in an object, which no checkpoint can hold, and counts steps by group,
    which is wrong for weights that are not updated in every step or one at a time.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        projected: Collection[Tensor],
        *,
        rank: int,
        interval: int,
        scale: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        """No weight has a state yet.

        Args:
            groups: With `params`, `lr` and `weight_decay`.
            projected: The matrices with low-rank states.
            rank: See `GaLore`, as for `interval` and `scale`.
            interval: See above.
            scale: See above.
            betas: Of Adam.
            eps: Of Adam.
        """
        import pytorch_optimizer  # takes seconds
        from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector

        super().__init__(groups, {"betas": betas, "eps": eps})
        self._projected, self._interval = projected, interval
        self._projection: dict[str, Any] = {
            "rank": rank,
            "update_proj_gap": interval,
            "scale": scale,
            "projection_type": "std",
        }
        self._projector = GaLoreProjector
        self._library = pytorch_optimizer.GaLore([torch.nn.Parameter(torch.empty(0))])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        alone = {**group, "params": [weight], "step": state.get("step", 0), "foreach": False}
        if weight in self._projected:
            renews = "basis" not in state or (alone["step"] + 1) % self._interval == 0
            if renews and not gradient.isfinite().all().item():
                weight.fill_(math.nan)  # as Adam's update; the decomposition would be an error
                return
            alone |= self._projection
            state["projector"] = self._projector(**self._projection)
            state["projector"].ortho_matrix = state.get("basis")
        self._library.param_groups, self._library.state = [alone], {weight: state}
        self._library.step()
        state["step"] = alone["step"]
        if "projector" in state:
            # Contiguous, as it is once loaded: products of another layout have other bits.
            state["basis"] = state.pop("projector").ortho_matrix.contiguous()
