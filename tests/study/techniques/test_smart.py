import numpy as np
import pytest
import torch

from study.techniques import SMART
from study.techniques.passes import (
    extra_forward,
    input_embeddings,
    symmetric_divergence,
    token_mask,
)
from tests.heads import batch_of, state_of


@pytest.mark.parametrize("masks", ["fresh", "shared"])
def test_weights_zero_change_nothing(masks, tiny_run):
    plain, zero = tiny_run(), tiny_run(SMART(weight=0.0, proximal=0.0, masks=masks))
    assert zero.curves == plain.curves
    assert np.array_equal(zero.logits["test"], plain.logits["test"])


def start(state, batch, sigma):
    rng = state.device_rng("noise", "SMART", state.step)
    return torch.empty_like(input_embeddings(batch, state)).normal_(0.0, sigma, generator=rng)


def test_one_step_by_hand():
    """The largest component of each token's gradient moves by the step size."""
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    technique = SMART(step_size=0.01, sigma=0.1, epsilon=9.0)
    outputs, first = state.forward(batch), start(state, batch, 0.1)
    moved = (technique._adversarial_shift(outputs, batch, state) - first).abs().amax(-1)
    real = token_mask(batch, first)[..., 0]
    assert torch.allclose(moved, 0.01 * real, atol=1e-6)


def test_the_ascent_raises_the_divergence_within_its_bound():
    state, batch = state_of("bert"), batch_of("bert")
    technique = SMART(step_size=0.02, sigma=0.01, epsilon=0.025, masks="shared")
    outputs, first = state.forward(batch), start(state, batch, 0.01)
    shift = technique._adversarial_shift(outputs, batch, state)
    below, above = (
        symmetric_divergence(
            outputs, extra_forward(batch, state, masks="shared", shift=s), batch, state
        )
        for s in (first, shift)
    )
    assert above > 1.5 * below
    assert shift.abs().max() == torch.tensor(0.025)


def test_the_inner_gradient_does_not_reach_the_weights():
    state, batch = state_of("bert"), batch_of("bert")
    outputs = state.forward(batch)
    shift = SMART()._adversarial_shift(outputs, batch, state)
    assert not shift.requires_grad
    assert all(p.grad is None for p in state.model.parameters())
    outputs.loss.backward()  # the first pass's graph is still intact


def test_a_gradient_that_is_not_finite_keeps_the_initial_noise():
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    with torch.no_grad():
        state.model.get_parameter("classifier.weight").fill_(float("nan"))
    shift = SMART(sigma=0.1, epsilon=9.0)._adversarial_shift(state.forward(batch), batch, state)
    assert torch.equal(shift, start(state, batch, 0.1))


def test_past_weights_by_hand():
    """0.99 for the first tenth of the run, then 0.999."""
    state = state_of("bert")  # of 10 steps
    technique, name = SMART(), "classifier.bias"
    technique.prepare(state)
    bias, past = state.model.get_parameter(name), state.memo["SMART"]
    with torch.no_grad():
        bias.fill_(1.0)
        past[name].fill_(0.0)
    state.step = 1
    technique.after_step(state)
    assert past[name].tolist() == pytest.approx([0.01, 0.01])
    state.step = 2
    technique.after_step(state)
    assert past[name].tolist() == pytest.approx([0.01 + 0.001 * 0.99] * 2)


def test_the_proximal_term_is_the_drift_of_the_outputs():
    state, batch = state_of("bert"), batch_of("bert")
    technique = SMART(weight=0.0, proximal=2.0, masks="shared")
    technique.prepare(state)
    outputs = state.forward(batch)
    assert technique.loss(outputs.loss, outputs, batch, state) == outputs.loss  # no drift yet
    with torch.no_grad():
        state.model.get_parameter("classifier.bias").add_(torch.tensor([1.0, 0.0]))
    state.reseed()
    drifted = state.forward(batch)
    loss = technique.loss(drifted.loss, drifted, batch, state)
    expected = 2.0 * symmetric_divergence(drifted, outputs, batch, state)
    assert (loss - drifted.loss).item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_the_proximal_term_no_weights_are_stored():
    state = state_of("bert")
    SMART(proximal=0.0).prepare(state)
    assert state.memo == {}
