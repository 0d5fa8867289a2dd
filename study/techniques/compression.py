"""Autograd functions that store less than stock ones for the backward pass; forwards are exact.

Codes are signed fixed-point numbers: x is stored as round(x / step) within the range of its bits,
half to even. The steps are constants, or measured: a 127th of the largest absolute value, which
nothing exceeds. Everything stored goes through `save_for_backward`. None of them can be
differentiated twice.

Source: Ardakani et al. 2023 (SlimFit) and their code: formats, formulas and what is pruned.
"""

import math
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Codes per unit.
OPERAND = 16  # of 8-bit operands, within [-8, 7.9375]
HALF = 2  # of 4-bit inputs of GELU, within [-4, 3.5]
FINE = 32  # of 8-bit inputs of GELU, within [-4, 3.96875]
PROBABILITY = 256  # of probabilities; 1 becomes 255/256
HEAD, TOKEN = (-2, -1), (-1,)  # dimensions that share a measured step


def to_int8(x: Tensor, shared: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor | None]:
    """8-bit codes of the same shape, and their step.

    Args:
        x: Any shape.
        shared: Dimensions over which a step is measured; None for the constant one.

    Returns:
        The step is None where it is constant; it has size 1 in the shared dimensions.
    """
    if shared is None:
        return (x * OPERAND).round().clamp(-128, 127).to(torch.int8), None
    step = (x.abs().amax(shared, keepdim=True) / 127).clamp_min(torch.finfo(x.dtype).tiny)
    return (x / step).round().clamp(-127, 127).to(torch.int8), step


def from_int8(code: Tensor, step: Tensor | None, like: torch.dtype) -> Tensor:
    """The values of 8-bit codes."""
    return code.to(like) / OPERAND if step is None else code.to(like) * step.to(like)


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


class RoundedGelu(torch.autograd.Function):
    """GELU with its input stored in 4 or 8 bits; the gradient is that at the rounded input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        """From any shape to the same."""
        code = pack4(x) if bits == 4 else (x * FINE).round().clamp(-128, 127).to(torch.int8)
        ctx.save_for_backward(code)
        ctx.shape, ctx.bits = x.shape, bits
        return functional.gelu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Phi(x) + x phi(x) at the rounded x."""
        (code,) = ctx.saved_tensors
        like = gradient.dtype
        x = unpack4(code, ctx.shape, like) if ctx.bits == 4 else code.to(like) / FINE
        density = torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
        return gradient * (0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * density), None


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
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, measured: bool) -> Tensor:
        """From shape (..., in) to (..., out); measured steps are of a token."""
        ctx.save_for_backward(*to_int8(x, TOKEN if measured else None), weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        """The weight's gradient is that of the rounded input; the others are exact."""
        code, step, weight = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        of_x = gradient @ weight.to(gradient.dtype) if ctx.needs_input_grad[0] else None
        of_weight = flat.T @ from_int8(code, step, gradient.dtype).flatten(0, -2)
        return of_x, of_weight, flat.sum(0) if ctx.needs_input_grad[2] else None, None


class StoredAttention(torch.autograd.Function):
    """Attention with query, key and value stored as 8-bit codes and probabilities as 8 bits.

    Dropout acts on the entries of the value instead of the probabilities.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
        measured: bool,
    ) -> Tensor:
        """From (rows, heads, tokens, width) to the same; `mask` is True where attended.

        Measured steps are of a head, and of a token's probabilities.
        """
        scores = query @ key.transpose(-1, -2) * scale
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(-1)
        step = probabilities.amax(-1, keepdim=True) / (PROBABILITY - 1) if measured else None
        levels = probabilities / (1 / PROBABILITY if step is None else step)
        levels = levels.round().clamp(max=PROBABILITY - 1).to(torch.uint8)
        _save_operands(ctx, (query, key, value), measured, levels, step)
        ctx.scale = scale
        return probabilities @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Softmax and both products at the rounded operands."""
        (query, key, value), (levels, step) = _saved_operands(ctx, gradient.dtype)
        p = levels.to(gradient.dtype) * (1 / PROBABILITY if step is None else step)
        of_p = gradient @ value.transpose(-1, -2)
        of_scores = p * (of_p - (of_p * p).sum(-1, keepdim=True)) * ctx.scale
        of_value = p.transpose(-1, -2) @ gradient
        return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value, None, None, None


class RecomputedAttention(torch.autograd.Function):
    """Fused attention with 8-bit operands stored, computed again from them in the backward pass.

    Its memory does not grow with the square of the length, and no probability is rounded. Not part
    of SlimFit.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
        measured: bool,
    ) -> Tensor:
        """From (rows, heads, tokens, width) to the same; `mask` is True where attended.

        Measured steps are of a head.
        """
        _save_operands(ctx, (query, key, value), measured, mask)
        ctx.scale = scale
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """That of fused attention at the rounded operands."""
        operands, (mask,) = _saved_operands(ctx, gradient.dtype)
        query, key, value = (operand.requires_grad_() for operand in operands)
        with torch.enable_grad():
            output = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=ctx.scale
            )
        of_query, of_key, of_value = torch.autograd.grad(output, (query, key, value), gradient)
        return of_query, of_key, of_value, None, None, None


def _save_operands(
    ctx: Any, operands: tuple[Tensor, ...], measured: bool, *others: Tensor | None
) -> None:
    codes = [to_int8(operand, HEAD if measured else None) for operand in operands]
    ctx.save_for_backward(*chain.from_iterable(codes), *others)


def _saved_operands(ctx: Any, like: torch.dtype) -> tuple[list[Tensor], tuple[Any, ...]]:
    """Query, key and value, and what was saved beside them."""
    saved = ctx.saved_tensors
    pairs = zip(saved[0:6:2], saved[1:6:2], strict=True)
    return [from_int8(code, step, like) for code, step in pairs], saved[6:]


# --- modules, put in place of stock ones by changing their class ------------------------------


class CompressedGelu(nn.Module):
    """GELU; see `RoundedGelu`."""

    bits = 4

    def forward(self, x: Tensor) -> Tensor:
        """From any shape to the same."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return functional.gelu(x)
        return RoundedGelu.apply(x, self.bits)  # type: ignore[no-any-return, no-untyped-call]


class CompressedGelu8(CompressedGelu):
    """GELU with 8 bits."""

    bits = 8


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

    measured = False

    def forward(self, x: Tensor) -> Tensor:
        """From shape (..., in) to (..., out)."""
        if not (self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(x)
        arguments = (x, self.weight, self.bias, self.measured)
        return Linear8.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]


class MeasuredLinear(CompressedLinear):
    """A linear map with a measured step for each token of its input."""

    measured = True
