"""Mixout against its formula, its expectation, finite differences, and faults of other code."""

import numpy as np
import pytest
import torch
from torch import nn

from study.techniques import Mixout, ReinitTop, Standard
from study.techniques.mixout import MixedLinear

P = 0.75
MASKS = ["element", "column"]


def layer(mask: str, p: float = P) -> MixedLinear:
    """Six inputs, four outputs, in double precision; its weight differs from the fixed one."""
    torch.manual_seed(0)
    plain = nn.Linear(6, 4, dtype=torch.float64)
    return MixedLinear(plain, torch.randn(4, 6, dtype=torch.float64), p, mask)


def mixed(module: MixedLinear, seed: int) -> torch.Tensor:
    """The weight that one training pass uses, shape (out, in)."""
    torch.manual_seed(seed)
    return (module(torch.eye(6, dtype=torch.float64)) - module.bias).T


@pytest.mark.parametrize("mask", MASKS)
def test_each_weight_follows_the_formula(mask):
    """(M W + (1 - M) W0 - p W0) / (1 - p) with M in {0, 1}."""
    module = layer(mask)
    weight, start = module.weight, module.start
    kept = (weight - P * start) / (1 - P)
    swapped = (start - P * start) / (1 - P)
    used = mixed(module, seed=1)
    is_kept = torch.isclose(used, kept)
    assert torch.all(is_kept ^ torch.isclose(used, swapped))
    assert is_kept.any()
    assert not is_kept.all()
    assert torch.equal(is_kept.all(0), is_kept.any(0)) == (mask == "column")


@pytest.mark.parametrize("mask", MASKS)
def test_the_expectation_is_the_weight(mask):
    module = layer(mask)
    with torch.no_grad():
        draws = torch.stack([mixed(module, seed) for seed in range(4000)])
    # One draw deviates by |W - W0| sqrt(p / (1 - p)); five standard errors of 4,000 draws.
    bound = (module.weight - module.start).abs() * (P / (1 - P)) ** 0.5 * 5 / 4000**0.5
    assert torch.all((draws.mean(0) - module.weight).abs() < bound)


@pytest.mark.parametrize("mask", MASKS)
def test_the_gradient_is_exact(mask):
    """Widely copied code omits 1 / (1 - p) from it."""
    module = layer(mask)
    inputs = torch.randn(3, 6, dtype=torch.float64)

    def output(weight: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(2)
        return torch.func.functional_call(module, {"weight": weight}, (inputs,))

    assert torch.autograd.gradcheck(output, module.weight)


def test_evaluation_uses_the_plain_weights():
    module = layer("element").eval()
    inputs = torch.randn(3, 6, dtype=torch.float64)
    plain = nn.functional.linear(inputs, module.weight, module.bias)
    assert torch.equal(module(inputs), plain)


def test_p_0_is_the_baseline_bit_for_bit(tiny_run):
    assert tiny_run(Mixout(p=0.0, keep_dropout=True)).curves == tiny_run(Standard()).curves
    assert tiny_run(Mixout(p=0.0)).curves == tiny_run(Standard(), dropout=0.0).curves


def test_masks_come_from_the_noise_stream(tiny_run):
    """Dropout is off, so that nothing else can differ."""
    from study.core.seeding import Seed

    runs = [tiny_run(Mixout(p=0.5), Seed(0, 0, noise)).logits["dev"] for noise in (0, 1)]
    assert not np.array_equal(*runs)


def test_names_and_values_of_parameters_stay(tiny_state):
    before = {n: p.detach().clone() for n, p in tiny_state.model.named_parameters()}
    saved = list(tiny_state.model.state_dict())
    Mixout(p=0.5).prepare(tiny_state)
    after = dict(tiny_state.model.named_parameters())
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert list(tiny_state.model.state_dict()) == saved


def test_the_head_is_not_mixed_with_its_random_start(tiny_state):
    Mixout(p=0.5).prepare(tiny_state)
    linears = {n: m for n, m in tiny_state.model.named_modules() if isinstance(m, nn.Linear)}
    plain = {n for n, m in linears.items() if not isinstance(m, MixedLinear)}
    assert plain == {"bert.pooler.dense", "classifier"}


def test_re_initialised_layers_fall_back_to_their_new_values(tiny_state):
    (ReinitTop(layers=1) + Mixout(p=0.5)).weights(tiny_state)
    (ReinitTop(layers=1) + Mixout(p=0.5)).prepare(tiny_state)
    for path, module in tiny_state.model.named_modules():
        if isinstance(module, MixedLinear):
            assert torch.equal(module.start, module.weight), path


def test_dropout_is_off_unless_it_is_kept(tiny_state):
    assert Mixout().recipe(tiny_state.recipe) == tiny_state.recipe.replace(dropout=0.0)
    assert Mixout(keep_dropout=True).recipe(tiny_state.recipe) == tiny_state.recipe
