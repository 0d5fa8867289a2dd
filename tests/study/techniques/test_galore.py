"""GaLore against Adam in a basis that is known, and what its states are."""

import math

import numpy as np
import pytest
import torch

from study.techniques import GaLore
from study.techniques.galore import PlainGaLore
from study.techniques.state import plain_groups
from study.training.memory import state_bytes, step_alone
from tests.heads import state_of

LR, DECAY, BETAS, EPS = 1e-2, 0.1, (0.9, 0.999), 1e-6


def galore(weights, *, rank, interval=500, scale=4.0, decay=DECAY, projected=True):
    groups = [{"params": weights, "lr": LR, "weight_decay": decay}]
    chosen = set(weights) if projected else set()
    settings = {"rank": rank, "interval": interval, "scale": scale, "betas": BETAS, "eps": EPS}
    return PlainGaLore(groups, chosen, **settings)


def parameter(*shape):
    return torch.nn.Parameter(torch.linspace(-1, 1, math.prod(shape)).reshape(shape))


def gradients(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=rng)


def step(optimizer, weight, gradient):
    weight.grad = gradient.clone()
    optimizer.step()


def test_the_first_step_by_hand():
    """The leading left vector of diag(3, 1) is the first axis; Adam's first step is a sign."""
    weight = parameter(2, 3)
    start = weight.detach().clone()
    step(galore([weight], rank=1), weight, torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    start[0, 0] -= LR * 4.0 * 1.0
    torch.testing.assert_close(weight.detach(), start * (1 - LR * DECAY), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_steps_and_a_new_basis_with_numpy(shape):
    """Adam of the projected gradients, whose moments a new basis keeps."""
    weight, rank, interval = parameter(*shape), 2, 3
    optimizer = galore([weight], rank=rank, interval=interval)
    expected = weight.detach().double().numpy()
    right = shape[0] >= shape[1]
    m = v = 0.0
    for count, gradient in zip(range(1, 8), gradients(*shape), strict=False):
        step(optimizer, weight, gradient)
        g = gradient.double().numpy()
        basis = optimizer.state[weight]["basis"].double().numpy()  # known up to signs
        if count in (1, 3, 6):
            left_vectors, _, right_vectors = np.linalg.svd(g)
            leading = right_vectors[:rank] if right else left_vectors[:, :rank]
            np.testing.assert_allclose(np.abs(basis), np.abs(leading), rtol=1e-4, atol=1e-5)
        projected = g @ basis.T if right else basis.T @ g
        m = BETAS[0] * m + (1 - BETAS[0]) * projected
        v = BETAS[1] * v + (1 - BETAS[1]) * projected**2
        corrected = m / (1 - BETAS[0] ** count)
        update = corrected / (np.sqrt(v / (1 - BETAS[1] ** count)) + EPS)
        expected = expected - LR * 4.0 * (update @ basis if right else basis @ update)
        expected = expected * (1 - LR * DECAY)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("projected", [True, False])
def test_where_nothing_is_projected_it_is_adam(projected):
    """A matrix of one row has one direction, so at scale 1 its states and steps are Adam's."""
    ours, adams = parameter(1, 8), parameter(1, 8)
    optimizer = galore([ours], rank=4, scale=1.0, decay=0.0, projected=projected)
    adam = torch.optim.AdamW([adams], lr=LR, weight_decay=0.0, betas=BETAS, eps=EPS)
    for _, gradient in zip(range(5), gradients(1, 8), strict=False):
        step(optimizer, ours, gradient)
        step(adam, adams, gradient)
    torch.testing.assert_close(ours, adams, rtol=1e-4, atol=1e-5)


def test_states_are_tensors_and_a_number():
    wide, tall = parameter(6, 20), parameter(20, 6)
    optimizer = galore([wide, tall], rank=2)
    for weight in (wide, tall):
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert state_bytes(optimizer) == 2 * 4 * (6 + 2 * 20) * 2
    for state in optimizer.state_dict()["state"].values():
        kinds = {name: type(value) for name, value in state.items()}
        moments = {"exp_avg": torch.Tensor, "exp_avg_sq": torch.Tensor}
        assert kinds == {**moments, "step": int, "basis": torch.Tensor}


def test_the_matrices_of_layers_are_projected_and_nothing_else():
    state = state_of("bert")
    optimizer = GaLore().optimizer(plain_groups(state), state)
    for weight in state.model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    named = dict(state.model.named_parameters())
    projected = {name for name, weight in named.items() if "basis" in optimizer.state[weight]}
    assert projected == {n for n, p in named.items() if ".layer." in n and p.ndim == 2}
    assert len(projected) == 3 * 6


def test_each_weight_counts_its_own_steps():
    """One that begins late moves as at its first step, and one step in parts is one step."""
    early, late, other = parameter(4, 6), parameter(4, 6), parameter(4, 6)
    optimizer, alone = galore([early, late], rank=2), galore([other], rank=2)
    draws = gradients(4, 6)
    for _ in range(3):
        early.grad = next(draws)
        step_alone(optimizer, optimizer.param_groups[0], early)
    gradient = next(draws)
    late.grad = gradient.clone()
    step_alone(optimizer, optimizer.param_groups[0], late)
    step(alone, other, gradient)
    assert torch.equal(late, other)
    assert [optimizer.state[weight]["step"] for weight in (early, late)] == [3, 1]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_gradient_that_is_not_finite_diverges(steps):
    """At a new basis, too, whose decomposition would be an error and the run missing."""
    weight = parameter(4, 6)
    optimizer = galore([weight], rank=2, interval=3)
    for _, gradient in zip(range(steps), gradients(4, 6), strict=False):
        step(optimizer, weight, gradient)
    step(optimizer, weight, torch.full((4, 6), torch.nan))
    assert weight.isnan().all()
