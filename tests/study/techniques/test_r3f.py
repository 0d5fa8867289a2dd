import numpy as np
import pytest
import torch
from torch.nn import functional

from study.techniques import R3F
from study.techniques.passes import extra_forward, input_embeddings
from tests.heads import batch_of, state_of


@pytest.mark.parametrize("masks", ["fresh", "shared"])
def test_weight_zero_changes_nothing(masks, tiny_run):
    plain, zero = tiny_run(), tiny_run(R3F(weight=0.0, masks=masks))
    assert zero.curves == plain.curves
    assert np.array_equal(zero.logits["test"], plain.logits["test"])


def penalty(technique, state, batch):
    state.reseed()
    outputs = state.forward(batch)
    return (technique.loss(outputs.loss, outputs, batch, state) - outputs.loss).item()


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_formula_against_torch(noise):
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    rng = state.device_rng("noise", "R3F", 0)
    shift = torch.empty_like(input_embeddings(batch, state))
    if noise == "uniform":
        shift.uniform_(-0.5, 0.5, generator=rng)
    else:
        shift.normal_(0.0, 0.5, generator=rng)
    clean = state.forward(batch).logits
    noisy = extra_forward(batch, state, masks="fresh", shift=shift).logits
    log_p, log_q = (x.double().log_softmax(-1) for x in (clean, noisy))
    expected = 2.0 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean()
    computed = penalty(R3F(weight=2.0, epsilon=0.5, noise=noise), state, batch)
    assert computed == pytest.approx(expected.item(), rel=1e-3)


def test_regression_is_not_dropped_silently():
    """The reference code omits the penalty, so that its R3F is standard fine-tuning."""
    state = state_of("bert", "regression", dropout=0.0)
    batch = batch_of("bert", "regression")
    rng = state.device_rng("noise", "R3F", 0)
    shift = torch.empty_like(input_embeddings(batch, state)).uniform_(-0.5, 0.5, generator=rng)
    clean, noisy = state.forward(batch), extra_forward(batch, state, masks="fresh", shift=shift)
    expected = 2 * functional.mse_loss(clean.logits, noisy.logits).item()
    assert expected > 0
    assert penalty(R3F(epsilon=0.5), state, batch) == pytest.approx(expected, rel=1e-3)


def test_the_published_penalty_consists_of_fresh_masks():
    state, batch = state_of("bert"), batch_of("bert")
    assert penalty(R3F(masks="shared"), state, batch) < 1e-6 < penalty(R3F(), state, batch)


def test_word_embeddings_get_the_gradient_of_the_noisy_pass():
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    words = state.model.get_input_embeddings().weight
    outputs = state.forward(batch)
    technique = R3F(epsilon=0.5)
    loss = technique.loss(outputs.loss, outputs, batch, state)
    disturbed = loss - outputs.loss
    (whole,) = torch.autograd.grad(disturbed, words, retain_graph=True)
    (logits_only,) = torch.autograd.grad(disturbed, outputs.logits, retain_graph=True)
    (clean_part,) = torch.autograd.grad(outputs.logits, words, logits_only)
    assert not torch.allclose(whole, clean_part, atol=1e-9)
