"""Compressed activations: store what cannot be dropped in fewer bits, and prune the rest."""

from collections.abc import Callable, Mapping
from itertools import product
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
        steps: Distance of neighbouring 8-bit codes: `constant`, which cuts off values beyond 8 and
            rounds probabilities below 1/512 to 0, or `measured`, from the largest value of a head
            (attention), of a token (feed-forward, probabilities).
        gelu_bits: 4 or 8, of an input of GELU. Most of the error of gradients is that of 4.

    Example:
        >>> from study import CompressedActivations, InterLayerScheduling
        >>> (InterLayerScheduling(freeze_rate=0.9) + CompressedActivations()).label
        'InterLayerScheduling(0.9) + CompressedActivations'

    Source: Ardakani et al. 2023 (SlimFit); formats and formulas as in their code. Differs:
        `recompute`, `measured` and 8 bits are ours; a norm's own epsilon is used.
    """

    attention: Literal["recompute", "stored"] = "recompute"
    parts: tuple[Part, ...] = PARTS
    steps: Literal["constant", "measured"] = "constant"
    gelu_bits: Literal[4, 8] = 4

    def objection(self, depths: Depths, kind: str) -> str | None:
        """The layers must have LayerNorm and GELU."""
        if depths.family.biases and not depths.family.causal:
            return None
        return "its norms and activations are not LayerNorm and GELU, which it compresses"

    def prepare(self, state: TrainState) -> None:
        """Change the classes of modules, and the attention function."""
        model, classes = state.model, self._classes()
        ends = state.depths.family.block_ends[-1:]
        feed_forward = set(in_layers(model, state.depths, ends))
        for name, module in model.named_modules():
            part, compressed = classes.get(type(module), ("", nn.Module))
            if part not in self.parts or (part == "feed_forward" and name not in feed_forward):
                continue
            if part != "gelu" or module.act is nn.functional.gelu:  # of several formulas
                module.__class__ = compressed
        if "attention" in self.parts and _has_attention_functions(model):
            register()
            model.set_attn_implementation(_named(self.attention, self.steps))  # type: ignore[operator]

    def merge(self, model: nn.Module) -> None:
        """Put the stock classes and the stock attention back."""
        stock = {compressed: own for own, (_, compressed) in self._classes().items()}
        for module in model.modules():
            module.__class__ = stock.get(type(module), type(module))
        if _has_attention_functions(model):
            model.set_attn_implementation("sdpa")  # type: ignore[operator]

    def _classes(self) -> Mapping[type[nn.Module], tuple[str, type[nn.Module]]]:
        """The part and the compressed class of each stock class.

        What another technique has put in place of one is of none of these, and keeps its own.
        """
        from transformers.activations import GELUActivation  # transformers takes seconds

        gelu = {4: compression.CompressedGelu, 8: compression.CompressedGelu8}
        linear = {
            "constant": compression.CompressedLinear,
            "measured": compression.MeasuredLinear,
        }
        return {
            GELUActivation: ("gelu", gelu[self.gelu_bits]),
            nn.LayerNorm: ("norm", compression.CompressedNorm),
            nn.Linear: ("feed_forward", linear[self.steps]),
            nn.Dropout: ("dropout", compression.CompressedDropout),
        }


def _has_attention_functions(model: Any) -> bool:
    return bool(model._can_set_attn_implementation())


def _named(attention: str, steps: str) -> str:
    """Name of an attention function for transformers."""
    return f"study_{attention}_{steps}"


def register() -> None:
    """Make the attention functions known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    functions = {
        "recompute": compression.RecomputedAttention,
        "stored": compression.StoredAttention,
    }
    for (attention, function), steps in product(functions.items(), ("constant", "measured")):
        name = _named(attention, steps)
        AttentionInterface.register(name, _attention(function, measured=steps == "measured"))
        AttentionMaskInterface.register(name, sdpa_mask)


def _attention(function: Any, *, measured: bool) -> Callable[..., tuple[Tensor, None]]:
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
        attended = function.apply(query, key, value, attention_mask, scale, measured)
        return attended.transpose(1, 2).contiguous(), None

    return attend
