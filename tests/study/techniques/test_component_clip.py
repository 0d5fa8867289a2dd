"""Component-wise clipping against torch's clipping of one component at a time."""

import pytest
import torch

from study.core.recipe import Recipe
from study.techniques import ComponentClip


def with_gradients(state):
    rng = torch.Generator().manual_seed(0)
    for number, parameter in enumerate(state.model.parameters()):
        scale = 10.0 ** (number % 5 - 3)  # some components above the norm, some below
        parameter.grad = torch.randn(parameter.shape, generator=rng) * scale
    return state


def test_each_component_as_torch_clips_it(tiny_state, loaded):
    state = with_gradients(tiny_state)
    other = loaded.fresh(state.seed, None)
    for mine, theirs in zip(state.model.parameters(), other.parameters(), strict=True):
        theirs.grad = mine.grad.clone()
    ComponentClip(max_norm=0.5).after_backward(state)
    norms = []
    for module in other.modules():
        if own := list(module.parameters(recurse=False)):
            norms.append(torch.nn.utils.clip_grad_norm_(own, 0.5).item())
    assert min(norms) < 0.5 < max(norms)
    for (name, mine), theirs in zip(
        state.model.named_parameters(), other.parameters(), strict=True
    ):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=0), name


def test_one_exploding_component_leaves_the_others_alone(tiny_state):
    state = with_gradients(tiny_state)
    for parameter in state.model.parameters():
        parameter.grad *= 1e-6
    state.model.classifier.weight.grad.fill_(1e6)
    before = {n: p.grad.clone() for n, p in state.model.named_parameters()}
    ComponentClip(max_norm=1.0).after_backward(state)
    for name, parameter in state.model.named_parameters():
        if not name.startswith("classifier"):
            assert torch.equal(parameter.grad, before[name]), name
    assert state.model.classifier.weight.grad.norm().item() == pytest.approx(1.0)


def test_global_clipping_is_off():
    assert ComponentClip().recipe(Recipe(lr=1e-3)) == Recipe(lr=1e-3, clip_norm=None)


def test_a_norm_above_all_gradients_clips_nothing(tiny_run):
    huge = tiny_run(ComponentClip(max_norm=1e9))
    assert huge.curves == tiny_run(clip_norm=None).curves


def test_frozen_components_and_zero_gradients_are_handled(tiny_state):
    state = with_gradients(tiny_state)
    state.model.bert.pooler.dense.weight.grad = None
    state.model.classifier.weight.grad.zero_()
    state.model.classifier.bias.grad.zero_()
    ComponentClip().after_backward(state)
    assert state.model.classifier.weight.grad.eq(0).all()
    assert state.model.bert.pooler.dense.weight.grad is None
