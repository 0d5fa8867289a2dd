"""Autograd functions that store less than stock ones for the backward pass; forwards are exact.

Codes are signed fixed-point numbers with one constant scale: x is stored as round(x * scale) within
the range of its bits, half to even. Everything stored goes through `save_for_backward`. None of
them can be differentiated twice.

Source: Ardakani et al. 2023 (SlimFit) and their code: formats, formulas and what is pruned.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Codes per unit.
OPERAND = 16  # of 8-bit operands, within [-8, 7.9375]
HALF = 2  # of 4-bit inputs of GELU, within [-4, 3.5]
PROBABILITY = 256  # of probabilities; 1 becomes 255/256


def to_int8(x: Tensor) -> Tensor:
    """8-bit codes, of the same shape."""
    return (x * OPERAND).round().clamp(-128, 127).to(torch.int8)


def from_int8(code: Tensor, like: torch.dtype) -> Tensor:
    """The values of 8-bit codes."""
    return code.to(like) / OPERAND


def pack4(x: Tensor) -> Tensor:
    """4-bit codes of all elements, two per byte, shape (ceil(n / 2),).

    The first half of the elements is in the high bits; an odd last one has a zero beside it.
    """
    code = ((x.reshape(-1) * HALF).round().clamp(-8, 7) + 8).to(torch.uint8)
    half = -(-code.numel() // 2)
    low = functional.pad(code[half:], (0, 2 * half - code.numel()))
    return (code[:half] << 4) | low


def unpack4(packed: Tensor, shape: torch.Size, like: torch.dtype) -> Tensor:
    """The values of `pack4`, of the shape they had."""
    code = torch.cat([packed >> 4, packed & 15])[: math.prod(shape)]
    return ((code.to(like) - 8) / HALF).reshape(shape)


class Gelu4(torch.autograd.Function):
    """GELU with its input stored in 4 bits; the gradient is that at the rounded input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """From any shape to the same."""
        ctx.save_for_backward(pack4(x))
        ctx.shape = x.shape
        return functional.gelu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Phi(x) + x phi(x) at the rounded x."""
        (packed,) = ctx.saved_tensors
        x = unpack4(packed, ctx.shape, gradient.dtype)
        density = torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
        return gradient * (0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * density)


class ByteDropout(torch.autograd.Function):
    """Dropout that stores one byte an entry, on CPUs as on GPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        """From any shape to the same; draws from the global generator, as stock dropout does."""
        mask = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - p)
        ctx.save_for_backward(mask)
        scale = 1 / (1 - p)
        ctx.scale = scale
        return x * mask * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Masked and scaled as the output was."""
        (mask,) = ctx.saved_tensors
        return gradient * mask * ctx.scale, None


class PrunedNorm(torch.autograd.Function):
    """LayerNorm with a frozen gain: only the largest normalised values are stored.

    Of all entries of the batch, floor(keep * n) values and their positions, and a standard
    deviation per token; all others count as 0 in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float, keep: float) -> Tensor:
        """From shape (..., width) to the same."""
        wide = x.float()  # under autocast stock norms compute in float32 too
        deviation = torch.sqrt(wide.var(-1, unbiased=False, keepdim=True) + eps)
        normalised = ((wide - wide.mean(-1, keepdim=True)) / deviation).reshape(-1)
        count = math.floor(keep * normalised.numel())
        largest = normalised.abs().topk(count, sorted=False).indices
        ctx.save_for_backward(
            normalised[largest], largest.to(torch.int32), deviation.contiguous(), gain
        )
        ctx.shape = x.shape
        return functional.layer_norm(x, gain.shape, gain, bias, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor | None, None, None]:
        """LayerNorm's formula with the pruned values."""
        kept, where, deviation, gain = ctx.saved_tensors
        pruned = gradient.new_zeros(math.prod(ctx.shape))
        pruned[where.long()] = kept
        pruned = pruned.reshape(ctx.shape)
        scaled = gradient * gain
        centred = scaled - scaled.mean(-1, keepdim=True)
        of_x = (centred - pruned * (scaled * pruned).mean(-1, keepdim=True)) / deviation
        of_bias = gradient.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return of_x, None, of_bias, None, None


class Linear8(torch.autograd.Function):
    """A linear map with a trained weight and its input stored in 8 bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """From shape (..., in) to (..., out)."""
        ctx.save_for_backward(to_int8(x), weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """The weight's gradient is that of the rounded input; the others are exact."""
        code, weight = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        of_x = gradient @ weight.to(gradient.dtype) if ctx.needs_input_grad[0] else None
        of_weight = flat.T @ from_int8(code, gradient.dtype).flatten(0, -2)
        return of_x, of_weight, flat.sum(0) if ctx.needs_input_grad[2] else None


class StoredAttention(torch.autograd.Function):
    """Attention with query, key and value stored as 8-bit codes and probabilities as 8 bits.

    Dropout acts on the entries of the value instead of the probabilities.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        """From (rows, heads, tokens, width) to the same; `mask` is True where attended."""
        scores = query @ key.transpose(-1, -2) * scale
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(-1)
        levels = (probabilities * PROBABILITY).round().clamp(max=PROBABILITY - 1).to(torch.uint8)
        ctx.save_for_backward(to_int8(query), to_int8(key), levels, to_int8(value))
        ctx.scale = scale
        return probabilities @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Softmax and both products at the rounded operands."""
        *codes, levels, last = ctx.saved_tensors
        query, key, value = (from_int8(code, gradient.dtype) for code in (*codes, last))
        p = levels.to(gradient.dtype) / PROBABILITY
        of_p = gradient @ value.transpose(-1, -2)
        of_scores = p * (of_p - (of_p * p).sum(-1, keepdim=True)) * ctx.scale
        of_value = p.transpose(-1, -2) @ gradient
        return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value, None, None


class RecomputedAttention(torch.autograd.Function):
    """Fused attention with 8-bit operands stored, computed again from them in the backward pass.

    Its memory does not grow with the square of the length, and no probability is rounded. Not part
    of SlimFit.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        """From (rows, heads, tokens, width) to the same; `mask` is True where attended."""
        ctx.save_for_backward(to_int8(query), to_int8(key), to_int8(value), mask)
        ctx.scale = scale
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """That of fused attention at the rounded operands."""
        *codes, mask = ctx.saved_tensors
        query, key, value = (from_int8(code, gradient.dtype).requires_grad_() for code in codes)
        with torch.enable_grad():
            output = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=ctx.scale
            )
        of_query, of_key, of_value = torch.autograd.grad(output, (query, key, value), gradient)
        return of_query, of_key, of_value, None, None


# --- modules, put in place of stock ones by changing their class ------------------------------


class CompressedGelu(nn.Module):
    """GELU; see `Gelu4`."""

    def forward(self, x: Tensor) -> Tensor:
        """From any shape to the same."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return functional.gelu(x)
        return Gelu4.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class CompressedDropout(nn.Dropout):
    """Dropout; see `ByteDropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """From any shape to the same."""
        if not (self.training and self.p):
            return x
        return ByteDropout.apply(x, self.p)  # type: ignore[no-any-return, no-untyped-call]


class CompressedNorm(nn.LayerNorm):
    """LayerNorm; see `PrunedNorm`. Stock as long as its gain is trained."""

    keep = 0.1

    def forward(self, x: Tensor) -> Tensor:
        """From shape (..., width) to the same."""
        frozen = not self.weight.requires_grad
        if not (
            frozen and torch.is_grad_enabled() and (x.requires_grad or self.bias.requires_grad)
        ):
            return super().forward(x)
        arguments = (x, self.weight, self.bias, self.eps, self.keep)
        return PrunedNorm.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]


class CompressedLinear(nn.Linear):
    """A linear map; see `Linear8`. Stock where its weight is frozen, which then stores nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """From shape (..., in) to (..., out)."""
        if not (self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(x)
        return Linear8.apply(x, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]
