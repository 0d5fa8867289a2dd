"""NoisyTune: uniform noise, in proportion to the standard deviation of each tensor, never NaN."""

import pytest
import torch
from torch import nn

from study.core.seeding import Seed
from study.techniques import NoisyTune

BIG = "bert.encoder.layer.0.intermediate.dense.weight"


def copies(state):
    return {n: p.detach().clone() for n, p in state.model.named_parameters()}


def test_the_noise_by_its_moments(tiny_state):
    """A uniform variable of width w has standard deviation w / sqrt(12) and maximum w / 2."""
    before = copies(tiny_state)
    NoisyTune(intensity=0.3).weights(tiny_state)
    noise = (tiny_state.model.get_parameter(BIG) - before[BIG]) / before[BIG].std()
    assert noise.std().item() == pytest.approx(0.3 / 12**0.5, rel=0.05)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)
    assert 0.145 < noise.abs().max().item() <= 0.1501


def test_intensity_0_changes_nothing(tiny_state):
    before = copies(tiny_state)
    NoisyTune(intensity=0.0).weights(tiny_state)
    assert all(torch.equal(before[n], p) for n, p in tiny_state.model.named_parameters())


def test_a_single_element_does_not_become_nan(tiny_state):
    """A fault of public copies: the standard deviation of one number is NaN."""
    tiny_state.model.bert.embeddings.register_parameter("gain", nn.Parameter(torch.ones(1)))
    NoisyTune().weights(tiny_state)
    assert tiny_state.model.bert.embeddings.gain.item() == 1.0
    assert all(p.isfinite().all() for p in tiny_state.model.parameters())


def test_the_head_and_new_norms_are_unchanged(tiny_state):
    before = copies(tiny_state)
    NoisyTune().weights(tiny_state)
    for name, parameter in tiny_state.model.named_parameters():
        constant = before[name].std() == 0 or tiny_state.depths.of(name) == tiny_state.depths.head
        assert torch.equal(before[name], parameter) == bool(constant), name


def test_it_draws_from_the_head_stream_alone(tiny_state, loaded):
    outside = torch.get_rng_state()
    NoisyTune().weights(tiny_state)
    first = copies(tiny_state)[BIG]
    for seed, same in ((Seed(0, 1, 1), True), (Seed(1, 0, 0), False)):
        tiny_state.model = loaded.fresh(Seed(0, 0, 0), None)
        tiny_state.seed = seed
        NoisyTune().weights(tiny_state)
        assert torch.equal(copies(tiny_state)[BIG], first) == same
    assert torch.equal(torch.get_rng_state(), outside)
