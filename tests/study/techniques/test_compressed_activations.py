"""Compressed activations: codes, gradients and bytes against formulas, and what stays exact."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of
from study.tasks.kinds import KINDS
from study.techniques import CompressedActivations, InterLayerScheduling
from study.techniques import compression as c
from study.techniques.inter_layer_scheduling import units_of
from study.techniques.state import TrainState
from study.training.memory import SavedActivations
from tests.conftest import CPU
from tests.families import DECODERS, TEXT, batch_of, bert_batch, logits_of, state_of, wide_bert

# --- codes ------------------------------------------------------------------------------------


def test_multiples_of_a_step_come_back_and_others_are_off_by_half_a_step():
    grid = torch.arange(-128, 128) / 16
    assert torch.equal(rounded(grid), grid)
    assert rounded(torch.tensor([-99.0, 99.0])).tolist() == [-8, 7.9375]
    x = torch.rand(1000) * 15 - 7.5
    assert (rounded(x) - x).abs().max() <= 1 / 32


def test_a_measured_step_cuts_nothing_off():
    x = torch.tensor([[127.0, -3.2, 0.4], [0.0, 0.0, 0.0], [1e-3, -2e-3, 5e-4]])
    found = rounded(x, c.TOKEN)
    assert found[0].tolist() == [127.0, -3.0, 0.0]  # steps of 1
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    assert (found[2] - x[2]).abs().max() <= 2e-3 / 127 / 2 * 1.001
    heads = torch.stack([torch.full((3, 4), 300.0), torch.full((3, 4), 0.01)])
    torch.testing.assert_close(rounded(heads, c.HEAD), heads)


def rounded(x, shared=None):
    return c.from_int8(*c.to_int8(x, shared), torch.float32)


@pytest.mark.parametrize("count", [1, 6, 7])
def test_two_codes_a_byte(count):
    grid = (torch.arange(count) - 3) / 2
    packed = c.pack4(grid)
    assert packed.numel() == math.ceil(count / 2)
    assert torch.equal(c.unpack4(packed, grid.shape, torch.float32), grid)
    every = torch.arange(256, dtype=torch.uint8)  # of all bytes the codes and back
    values = c.unpack4(every, torch.Size([512]), torch.float32)
    assert torch.equal(c.pack4(values), every)
    ends = c.unpack4(c.pack4(torch.tensor([-9.0, 9.0])), torch.Size([2]), torch.float32)
    assert ends.tolist() == [-4.0, 3.5]


# --- gradients --------------------------------------------------------------------------------


def gradients(function, *inputs):
    """Output, and the gradient of every input that requires one, for a fixed upstream gradient."""
    output = function(*inputs)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    wanted = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
    return output, torch.autograd.grad(output, wanted, upstream)


# Half a step times the largest second derivative of GELU, 2 / sqrt(2 pi), bounds the error.
@pytest.mark.parametrize(
    ("bits", "per_unit", "low", "high"), [(4, 2, 0.19, 0.20), (8, 32, 0.012, 0.01247)]
)
def test_gelu_is_exact_forward_and_at_the_rounded_input_backward(bits, per_unit, low, high):
    x = torch.linspace(-3.75, 3.75, 4001, requires_grad=True)
    output, (own,) = gradients(c.RoundedGelu.apply, x, bits)
    assert torch.equal(output, functional.gelu(x))
    codes = (x * per_unit).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    _, (wanted,) = gradients(functional.gelu, (codes / per_unit).detach().requires_grad_())
    torch.testing.assert_close(own, wanted, rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(c.RoundedGelu.apply(x, bits).sum(), x)
    (exact,) = torch.autograd.grad(functional.gelu(x).sum(), x)
    assert low < (slope - exact).abs().max() <= high


@pytest.mark.parametrize("keep", [1.0, 0.1])
def test_a_norm_keeps_the_largest_values(keep):
    x = torch.randn(3, 5, 8, requires_grad=True)
    gain, bias = torch.rand(8) + 0.5, torch.randn(8, requires_grad=True)
    output, (of_x, of_bias) = gradients(
        lambda x, bias: c.PrunedNorm.apply(x, gain, bias, 1e-5, keep), x, bias
    )
    stock, (wanted, wanted_bias) = gradients(
        lambda x, bias: functional.layer_norm(x, (8,), gain, bias, 1e-5), x, bias
    )
    assert torch.equal(output, stock)
    torch.testing.assert_close(of_bias, wanted_bias)
    if keep == 1.0:
        torch.testing.assert_close(of_x, wanted, rtol=0, atol=1e-6)
        return
    y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    least = y.abs().flatten().sort(descending=True).values[int(0.1 * y.numel()) - 1]
    pruned = y * (y.abs() >= least)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)) * gain
    by_hand = upstream - upstream.mean(-1, keepdim=True)
    by_hand = by_hand - pruned * (upstream * pruned).mean(-1, keepdim=True)
    by_hand = by_hand / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(of_x, by_hand.detach())


def test_a_linear_map_rounds_its_input_for_the_weight_alone():
    x, weight = torch.randn(2, 3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    bias = torch.randn(5, requires_grad=True)
    output, (of_x, of_weight, of_bias) = gradients(c.Linear8.apply, x, weight, bias, False)
    stock, (wanted_x, _, wanted_bias) = gradients(functional.linear, x, weight, bias)
    assert torch.equal(output, stock)
    torch.testing.assert_close(of_x, wanted_x)
    torch.testing.assert_close(of_bias, wanted_bias)
    rounded = ((x * 16).round() / 16).detach().requires_grad_()
    _, (_, wanted, _) = gradients(functional.linear, rounded, weight, bias)
    torch.testing.assert_close(of_weight, wanted)


@pytest.mark.parametrize("function", [c.StoredAttention, c.RecomputedAttention])
def test_attention_has_the_gradient_of_rounded_operands(function):
    generator = torch.Generator().manual_seed(2)
    operands = [torch.randn(2, 3, 6, 4, generator=generator).requires_grad_() for _ in range(3)]
    mask = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    mask[0, :, :, 4:] = False

    def stock(query, key, value):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.5)

    output, own = gradients(lambda q, k, v: function.apply(q, k, v, mask, 0.5, False), *operands)
    torch.testing.assert_close(output, stock(*operands))
    rounded = [((x * 16).round() / 16).detach().requires_grad_() for x in operands]
    _, wanted = gradients(stock, *rounded)
    # Stored probabilities are rounded to 1/256 as well.
    least = 1 - 1e-6 if function is c.RecomputedAttention else 0.999
    for found, right in zip(own, wanted, strict=True):
        assert functional.cosine_similarity(found.flatten(), right.flatten(), dim=0) >= least


def test_stored_attention_by_its_formulas():
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, 1, 5, 4, generator=generator).requires_grad_() for _ in range(3))
    _, own = gradients(lambda q, k, v: c.StoredAttention.apply(q, k, v, None, 0.5, False), q, k, v)
    g = torch.randn(1, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    p = ((q @ k.transpose(-1, -2) * 0.5).softmax(-1) * 256).round().clamp(max=255) / 256
    rq, rk, rv = ((x * 16).round() / 16 for x in (q, k, v))
    of_p = g @ rv.transpose(-1, -2)
    of_scores = p * (of_p - (of_p * p).sum(-1, keepdim=True)) * 0.5
    by_hand = (of_scores @ rk, of_scores.transpose(-1, -2) @ rq, p.transpose(-1, -2) @ g)
    for found, right in zip(own, by_hand, strict=True):
        torch.testing.assert_close(found, right.detach())


@pytest.mark.parametrize("function", [c.StoredAttention, c.RecomputedAttention])
def test_measured_steps_hold_large_values_and_diffuse_attention(function):
    """Keys beyond 8 are cut off by the constant step, probabilities below 1/512 become 0."""
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, 2, 600, 8, generator=generator) for _ in range(3))
    k[:, 1] += 10.0  # in one head, as the outlier channels of pretrained encoders
    operands = [x.requires_grad_() for x in (q, k, v)]

    def stock(q, k, v):
        return functional.scaled_dot_product_attention(q, k, v, scale=0.3)

    _, wanted = gradients(stock, *operands)
    cosines = {}
    for measured in (False, True):
        _, own = gradients(lambda *o, m=measured: function.apply(*o, None, 0.3, m), *operands)
        pairs = zip(own, wanted, strict=True)
        cosines[measured] = min(
            functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pairs
        )
    assert cosines[True] > 0.999
    assert cosines[False] < 0.9


# --- models -----------------------------------------------------------------------------------

# Layers, rows, tokens, width, heads; bytes with all units frozen, by an independent implementation.
PUBLISHED = [((2, 3, 32, 96, 4), 221_476), ((3, 2, 50, 128, 8), 515_780)]


def bert_state(layers, width, heads, device="cpu"):
    model = wide_bert(layers, width, heads, device)
    kind = KINDS["classification"](("a", "b"))
    return TrainState(model, Recipe(), Seed(0, 0, 0), depths_of(model), CPU, kind, lambda: iter(()))


def saved(state, rows, tokens, device="cpu"):
    batch = bert_batch(rows, tokens, device)
    meter = SavedActivations(state.model, batch)
    with meter.counting():
        outputs = state.forward(batch)
    peak = meter.peak
    del outputs
    return peak


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("sizes", "expected"), PUBLISHED)
def test_published_bytes_to_the_byte(sizes, expected, device):
    layers, rows, tokens, width, heads = sizes
    state = bert_state(layers, width, heads, device)
    CompressedActivations(attention="stored").prepare(state)
    state.freeze(units_of(state))
    n, kept = rows * tokens, math.floor(0.1 * rows * tokens * width)
    norm = 8 * kept + 4 * n
    block = 6 * n * width + rows * heads * tokens**2 + 2 * n * width + 2 * norm
    formula = layers * block + norm + n * width + rows * (5 * width + 4 * 2) + 4
    assert saved(state, rows, tokens, device) == expected == formula


def test_memory_with_recomputed_attention_is_linear_in_the_length():
    state = bert_state(2, 32, 2)
    CompressedActivations().prepare(state)
    state.freeze(units_of(state))
    per_token = [saved(state, 2, tokens) / tokens for tokens in (64, 256)]
    assert per_token[1] == pytest.approx(per_token[0], rel=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "stored"},
        {"steps": "measured", "gelu_bits": 8},
        {"attention": "stored", "steps": "measured"},
    ],
)
@pytest.mark.parametrize("family", [f for f in TEXT if f not in (*DECODERS, "modernbert")])
def test_evaluation_is_exact_and_merging_restores_the_model(family, options):
    plain, state = state_of(family), state_of(family)
    technique = CompressedActivations(**options)
    technique.prepare(state)
    classes = {type(module) for module in state.model.modules()}
    linear = c.MeasuredLinear if "steps" in options else c.CompressedLinear
    assert {c.CompressedNorm, c.CompressedDropout, linear} <= classes
    state.model.eval()
    padded = batch_of(family)
    padded["attention_mask"][0, 4:] = 0
    with torch.no_grad():
        assert torch.equal(state.forward(padded).logits, plain.forward(padded).logits)
    technique.merge(state.model)
    assert [type(m) for m in state.model.modules()] == [type(m) for m in plain.model.modules()]
    assert torch.equal(logits_of(state, family), logits_of(plain, family))
    assert list(state.model.state_dict()) == list(plain.model.state_dict())


@pytest.mark.parametrize("attention", ["recompute", "stored"])
def test_gradients_are_close_to_exact_ones(attention):
    """Cosine of all gradients together; four bits of GELU are most of the difference."""
    found = {}
    for name, options in {
        "exact": None,
        "compressed": {},
        "measured": {"steps": "measured", "gelu_bits": 8},
    }.items():
        torch.manual_seed(0)
        state = bert_state(4, 128, 4)
        state.recipe = Recipe(dropout=0.0)
        for module in state.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0
        if options is not None:
            CompressedActivations(attention=attention, **options).prepare(state)
        ids = torch.randint(5, 50, (4, 32), generator=torch.Generator().manual_seed(0))
        state.forward({"input_ids": ids, "labels": torch.tensor([0, 1, 0, 1])}).loss.backward()
        found[name] = torch.cat([p.grad.flatten() for p in state.model.parameters()])
    cosines = {
        name: functional.cosine_similarity(found["exact"], found[name], dim=0) for name in found
    }
    assert 0.98 <= cosines["compressed"] < 1 - 1e-6
    assert 1 - cosines["measured"] < 0.2 * (1 - cosines["compressed"])


def test_with_scheduling_a_step_saves_a_fraction():
    """At a rate of 0.9 less than a third of a plain step, with masks of the same size in both."""
    bytes_of = {}
    for name, technique in (
        ("dropout alone", CompressedActivations(parts=("dropout",))),
        ("slimfit", InterLayerScheduling(freeze_rate=0.9) + CompressedActivations()),
    ):
        state = bert_state(4, 64, 4)
        technique.prepare(state)
        active = set(technique.active(state.trainable, state))
        for parameter_name, parameter in state.model.named_parameters():
            parameter.requires_grad_(parameter_name in active)
        bytes_of[name] = saved(state, 4, 64)
    assert bytes_of["slimfit"] < bytes_of["dropout alone"] / 3


def test_other_norms_are_refused():
    llama = state_of("llama").depths
    assert "not LayerNorm and GELU" in CompressedActivations().objection(llama, "classification")


def test_attention_of_mpnet_and_deberta_stays_as_it_is():
    for family in ("mpnet", "deberta-v2"):
        state = replace(state_of(family))
        before = state.model.config._attn_implementation
        CompressedActivations().prepare(state)
        assert state.model.config._attn_implementation == before
