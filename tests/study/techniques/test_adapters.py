"""Adapters: worked by hand, close to the identity at first, and effective in every family."""

import pytest
import torch
from torch.nn import functional

from study.core.seeding import Seed
from study.models.families import in_norm
from study.techniques import Adapters
from tests.families import ALL, batch_of, logits_of, state_of

BLOCK = "bert.encoder.layer.0.attention.output.dense"


def test_the_bottleneck_by_hand(tiny_state):
    block_end = tiny_state.model.get_submodule(BLOCK)
    w, b = (p.detach().clone() for p in (block_end.weight, block_end.bias))
    Adapters(bottleneck=4).prepare(tiny_state)
    inside = {n: p * 50 for n, p in block_end.adapter.named_parameters()}
    block_end.adapter.load_state_dict(inside)
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    h = x @ w.T + b
    middle = functional.gelu(h @ inside["down.weight"].T + inside["down.bias"])
    assert middle.shape == (3, 4)
    by_hand = h + middle @ inside["up.weight"].T + inside["up.bias"]
    assert torch.allclose(block_end(x), by_hand, atol=1e-6)
    assert not torch.allclose(by_hand, h, atol=1e-2)


@pytest.mark.parametrize("kind", ALL)
def test_in_every_family_it_starts_next_to_the_pretrained_model(kind):
    state = state_of(kind)
    plain = logits_of(state, kind)
    Adapters(bottleneck=4).prepare(state)
    start = logits_of(state, kind)
    assert torch.allclose(start, plain, atol=1e-3)
    assert not torch.equal(start, plain)
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            if "adapter.up" in name:
                parameter.zero_()
    assert torch.equal(logits_of(state, kind), plain)


@pytest.mark.parametrize("kind", ALL)
def test_in_every_family_two_adapters_per_layer_learn(kind):
    state = state_of(kind)
    Adapters(bottleneck=4).prepare(state)
    state.forward(batch_of(kind)).loss.backward()
    inserted = [n for n in state.trainable if ".adapter." in n]
    assert len(inserted) == 2 * 4 * state.depths.layers
    for name in inserted:
        assert 0 < state.depths.of(name) < state.depths.head
        assert state.model.get_parameter(name).grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", ALL)
def test_norms_and_the_head_train_too_and_nothing_else(kind):
    state = state_of(kind)
    Adapters().prepare(state)
    for name, parameter in state.model.named_parameters():
        head = state.depths.of(name) == state.depths.head
        expected = ".adapter." in name or in_norm(state.model, name) or head
        assert parameter.requires_grad == expected, name


def test_values_come_from_the_head_stream_alone():
    def drawn(seed):
        state = state_of("bert", seed)
        Adapters().prepare(state)
        return state.model.get_parameter(f"{BLOCK}.adapter.up.weight").detach()

    outside = torch.get_rng_state()
    first = drawn(Seed(0, 0, 0))
    assert torch.equal(drawn(Seed(0, 7, 7)), first)
    assert not torch.equal(drawn(Seed(1, 0, 0)), first)
    assert torch.equal(torch.get_rng_state(), outside)
    assert first.abs().max() <= 0.02
    # A normal distribution of 0.01, truncated at two standard deviations.
    assert first.std().item() == pytest.approx(0.0088, rel=0.05)
