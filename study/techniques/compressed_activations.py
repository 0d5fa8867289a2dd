"""Compressed activations: store what cannot be dropped in fewer bits, and prune the rest."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from study.models.families import Depths, in_layers
from study.techniques import compression
from study.techniques.base import Technique
from study.techniques.state import TrainState

Part = Literal["gelu", "norm", "feed_forward", "attention", "dropout"]
PARTS: tuple[Part, ...] = ("gelu", "norm", "feed_forward", "attention", "dropout")


class CompressedActivations(Technique):
    """Store 4 to 8 bits of what the backward pass needs even where weights are frozen.

    Inputs of GELU take 4 bits, operands of attention and the input of the second feed-forward layer
    8, masks of dropout a byte, and of the values of a norm with a frozen gain a tenth is kept.
    Outputs are exact, gradients approximate. Without frozen weights it saves about half; with
    `InterLayerScheduling` it is SlimFit. Attention is compressed in architectures that use the
    attention functions of transformers, which MPNet and DeBERTa do not.

    Attributes:
        attention: `recompute` stores query, key and value and computes attention again, in memory
            linear in the length (not part of SlimFit); `stored` stores the probabilities too.
        parts: What is compressed.

    Example:
        >>> from study import CompressedActivations, InterLayerScheduling
        >>> (InterLayerScheduling(freeze_rate=0.9) + CompressedActivations()).label
        'InterLayerScheduling(0.9) + CompressedActivations'

    Source: Ardakani et al. 2023 (SlimFit); formats and formulas as in their code. Differs:
        `recompute` is ours; a norm's own epsilon is used.
    """

    attention: Literal["recompute", "stored"] = "recompute"
    parts: tuple[Part, ...] = PARTS

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The layers must have LayerNorm and GELU."""
        if depths.family.biases:
            return None
        return "its norms and activations are not LayerNorm and GELU, which it compresses"

    def prepare(self, state: TrainState) -> None:
        """Change the classes of modules, and the attention function."""
        model, family = state.model, state.depths.family
        last = set(in_layers(model, state.depths, family.block_ends[-1:]))
        for name, module in model.named_modules():
            part = _part(module, is_last=name in last)
            if part in self.parts:
                module.__class__ = OF_PART[part]
        if "attention" in self.parts and _has_attention_functions(model):
            register()
            model.set_attn_implementation(f"study_{self.attention}")  # type: ignore[operator]

    def merge(self, model: nn.Module) -> None:
        """Put the stock classes and the stock attention back."""
        from transformers.activations import GELUActivation

        stock = {
            compression.CompressedGelu: GELUActivation,
            compression.CompressedDropout: nn.Dropout,
            compression.CompressedNorm: nn.LayerNorm,
            compression.CompressedLinear: nn.Linear,
        }
        for module in model.modules():
            module.__class__ = stock.get(type(module), type(module))
        if _has_attention_functions(model):
            model.set_attn_implementation("sdpa")  # type: ignore[operator]


OF_PART: Mapping[str | None, type[nn.Module]] = {
    "gelu": compression.CompressedGelu,
    "norm": compression.CompressedNorm,
    "feed_forward": compression.CompressedLinear,
    "dropout": compression.CompressedDropout,
}


def _part(module: nn.Module, *, is_last: bool) -> str | None:
    """Which part a module belongs to; None where it stays as it is.

    Only stock classes are taken: what another technique has put in place keeps its own.
    """
    from transformers.activations import GELUActivation

    if type(module) is GELUActivation and module.act is nn.functional.gelu:
        return "gelu"
    if type(module) is nn.Linear and is_last:
        return "feed_forward"
    return {nn.LayerNorm: "norm", nn.Dropout: "dropout"}.get(type(module))


def _has_attention_functions(model: Any) -> bool:
    return bool(model._can_set_attn_implementation())


def register() -> None:
    """Make both attention functions known to transformers, under their names after `study_`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    for name, function in (
        ("study_recompute", compression.RecomputedAttention),
        ("study_stored", compression.StoredAttention),
    ):
        AttentionInterface.register(name, _attention(function))
        AttentionMaskInterface.register(name, sdpa_mask)


def _attention(function: Any) -> Callable[..., tuple[Tensor, None]]:
    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        """Shapes (rows, heads, tokens, width) in, (rows, tokens, heads, width) out."""
        if not (torch.is_grad_enabled() and query.requires_grad):
            from transformers.integrations.sdpa_attention import sdpa_attention_forward

            output: tuple[Tensor, None] = sdpa_attention_forward(
                module,
                query,
                key,
                value,
                attention_mask,
                dropout=dropout,
                scaling=scaling,
                **others,
            )
            return output
        if dropout:
            value = compression.ByteDropout.apply(value, dropout)  # type: ignore[no-untyped-call]
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        attended = function.apply(query, key, value, attention_mask, scale)
        return attended.transpose(1, 2).contiguous(), None

    return attend
