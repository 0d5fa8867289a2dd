import gc
import weakref

import numpy as np
import pytest
import torch

from study.models.families import layers_of
from study.techniques import HyPe
from study.techniques.passes import extra_forward
from tests.heads import batch_of, state_of


def test_noise_too_small_to_add_changes_nothing(tiny_run):
    """Neither the loss nor the dropout masks."""
    plain, tiny = tiny_run(), tiny_run(HyPe(epsilon=1e-30))
    assert tiny.curves == plain.curves
    assert np.array_equal(tiny.logits["test"], plain.logits["test"])


def noise_at(layer, technique, passes=1):
    """The noise on a layer's input in each pass of a step without dropout."""
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    before, after = [], []
    module = layers_of(state.model, state.depths.family)[layer]
    module.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0].detach()))
    technique.prepare(state)
    module.register_forward_pre_hook(lambda _, inputs: after.append(inputs[0].detach()))
    for _ in range(passes):
        state.forward(batch)
    return [a - b for a, b in zip(after, before, strict=True)]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_uniform_noise_is_symmetric(layer):
    """The published code draws it from 0 to epsilon."""
    (noise,) = noise_at(layer, HyPe(epsilon=0.1))
    assert noise.abs().max().item() == pytest.approx(0.1, rel=0.05)
    assert abs(noise.mean().item()) < 4 * 0.1 / np.sqrt(3 * noise.numel())
    assert noise.std().item() == pytest.approx(0.1 / np.sqrt(3), rel=0.1)


def test_normal_noise_has_its_standard_deviation():
    (noise,) = noise_at(0, HyPe(epsilon=0.1, noise="normal"))
    assert noise.std().item() == pytest.approx(0.1, rel=0.15)


def test_layers_and_passes_draw_different_noise():
    one, two = noise_at(0, HyPe(epsilon=0.1), passes=2)
    (other,) = noise_at(1, HyPe(epsilon=0.1))
    assert not torch.allclose(one, two, atol=1e-3)
    assert not torch.allclose(one, other, atol=1e-3)


def test_each_step_draws_new_noise():
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    HyPe(epsilon=0.1).prepare(state)
    first = state.forward(batch).logits
    state.step = 1
    state.reseed()
    assert not torch.equal(state.forward(batch).logits, first)
    state.step = 0
    state.reseed()
    assert torch.equal(state.forward(batch).logits, first)


def test_a_pass_with_shared_masks_repeats_the_noise():
    """Otherwise R3F, SMART, FreeLB and LNSR would measure this noise instead of their own."""
    state, batch = state_of("bert"), batch_of("bert")
    HyPe(epsilon=0.1).prepare(state)
    state.reseed()
    first = state.forward(batch).logits
    assert torch.equal(extra_forward(batch, state, masks="shared").logits, first)
    fresh = extra_forward(batch, state, masks="fresh").logits
    assert not torch.equal(fresh, first)
    state.reseed()
    state.forward(batch)  # where the shared pass was left out, the fresh one is the same
    assert torch.equal(extra_forward(batch, state, masks="fresh").logits, fresh)


def test_the_hook_does_not_keep_the_model_alive():
    """A reference cycle through the hook would last until the next garbage collection."""
    state = state_of("bert")
    HyPe().prepare(state)
    model = weakref.ref(state.model.get_submodule("bert.encoder.layer.0"))
    gc.disable()
    try:
        del state
        assert model() is None
    finally:
        gc.enable()
