import numpy as np
import pytest
import torch

from study.core.spec import Invalid
from study.techniques import FreeLB, RDrop
from study.techniques.passes import extra_forward, token_mask
from tests.heads import batch_of, state_of


def test_one_step_from_a_zero_perturbation_changes_nothing(tiny_run):
    plain, one = tiny_run(), tiny_run(FreeLB(steps=1, magnitude=0.0))
    assert one.curves == plain.curves
    assert np.array_equal(one.logits["test"], plain.logits["test"])


def lengths(x):
    return x.flatten(1).norm(dim=1)[:, None, None]


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_the_gradient_is_the_mean_over_the_steps(family):
    state, batch = state_of(family), batch_of(family)
    technique = FreeLB(steps=3, step_size=0.05, magnitude=0.03, epsilon=0.06)
    outputs = state.forward(batch)
    shift, losses, gradients = technique._initial_shift(batch, state), [], []
    weights = list(state.model.parameters())
    for _ in range(3):
        shift = shift.detach().requires_grad_()
        loss = extra_forward(batch, state, masks="shared", shift=shift).loss
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, weights, retain_graph=True))
        (uphill,) = torch.autograd.grad(loss, shift)
        shift = shift + 0.05 * uphill / lengths(uphill)
        shift = shift * torch.where(lengths(shift) > 0.06, 0.06 / lengths(shift), 1.0)
    assert losses[0] < losses[1] < losses[2]  # the loss rises
    loss = technique.loss(outputs.loss, outputs, batch, state)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    loss.backward()
    for weight, *separate in zip(weights, *gradients, strict=True):
        assert torch.allclose(weight.grad, sum(separate) / 3, atol=1e-6)


def test_other_terms_of_the_loss_are_kept():
    state, batch = state_of("bert"), batch_of("bert")
    outputs = state.forward(batch)
    alone = FreeLB().loss(outputs.loss, outputs, batch, state)
    weight = state.model.get_parameter("classifier.weight")
    both = FreeLB().loss(outputs.loss + 5.0 * weight.sum(), outputs, batch, state)
    one, two = (torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (alone, both))
    assert torch.allclose(two - one, torch.full_like(weight, 5.0), atol=1e-5)


def test_a_scaled_loss_has_scaled_gradients():
    state, batch = state_of("bert"), batch_of("bert")
    outputs = state.forward(batch)
    loss = FreeLB().loss(outputs.loss, outputs, batch, state)
    weight = state.model.get_parameter("classifier.weight")
    one, half = (torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (loss, loss * 0.5))
    assert torch.allclose(half, one * 0.5)


def test_the_initial_perturbation_by_hand():
    """Uniform in [-m, m] / sqrt(tokens * dim) on each text's own tokens, zero on padding."""
    state, batch = state_of("bert"), batch_of("bert")
    shift = FreeLB(magnitude=0.5)._initial_shift(batch, state)  # rows of 5 and 7 tokens, 16 wide
    largest = shift.abs().amax((1, 2))
    bounds = 0.5 / torch.tensor([5.0, 7.0, 7.0, 7.0]).mul(16).sqrt()
    assert (largest <= bounds).all()
    assert (largest > 0.8 * bounds).all()
    assert (shift * (1 - token_mask(batch, shift))).abs().sum() == 0


def test_one_step_by_hand():
    """(3, 4) has length 5: a step of 5 along (0.6, 0.8) ends at length 10, the bound halves it."""
    x = torch.tensor([[[3.0, 4.0]]])
    assert FreeLB(step_size=5.0, epsilon=20.0)._ascend(x, x).tolist() == [[[6.0, 8.0]]]
    assert FreeLB(step_size=5.0, epsilon=5.0)._ascend(x, x).tolist() == [[[3.0, 4.0]]]


def test_with_r_drop_it_is_refused():
    assert isinstance(FreeLB() + RDrop(), Invalid)
