"""L2-SP worked by hand."""

import pytest
import torch

from study.techniques import L2SP, ReinitTop, Standard


def shifted(state, by: float) -> None:
    """Move every weight by a constant, away from the start."""
    assert state.start
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(by)


def test_penalty_and_gradient_by_hand(tiny_state):
    """Half of alpha per weight shifted by 1; the gradient is alpha (w - w0), beta w in the head."""
    shifted(tiny_state, 1.0)
    loss = L2SP(alpha=0.5, beta=0.25).loss(torch.tensor(2.0), None, {}, tiny_state)
    named = dict(tiny_state.model.named_parameters())
    head = {n for n in named if n.startswith(("bert.pooler", "classifier"))}
    below = sum(p.numel() for n, p in named.items() if n not in head)
    weights = sum(named[n].double().square().sum().item() for n in head)
    assert loss.item() == pytest.approx(2.0 + 0.25 * below + 0.125 * weights)
    loss.backward()
    for name, parameter in named.items():
        if name in head:
            wanted = 0.25 * parameter.detach()
        else:
            wanted = 0.5 * (parameter.detach() - tiny_state.start[name])
        assert torch.allclose(parameter.grad, wanted), name


def test_zero_strength_changes_nothing(tiny_run):
    assert tiny_run(L2SP(alpha=0.0, beta=0.0)).curves == tiny_run(Standard()).curves


def test_frozen_parameters_are_not_penalised(tiny_state):
    tiny_state.freeze(n for n, _ in tiny_state.model.named_parameters() if n != "classifier.bias")
    shifted(tiny_state, 1.0)
    loss = L2SP(alpha=0.5, beta=0.5).loss(torch.tensor(0.0), None, {}, tiny_state)
    assert loss.item() == pytest.approx(0.25 * 2)  # two biases, moved from 0 to 1


def test_re_initialised_layers_are_pulled_to_their_new_values(tiny_state):
    """Not to the pretrained values that were discarded."""
    both = ReinitTop(layers=1) + L2SP(alpha=1.0, beta=0.0)
    both.weights(tiny_state)
    both.prepare(tiny_state)
    assert both.loss(torch.tensor(0.0), None, {}, tiny_state).item() == 0.0


def test_the_start_is_stored_even_where_a_first_phase_trains_the_head_alone(tiny_state):
    tiny_state.freeze(n for n, _ in tiny_state.model.named_parameters() if "classifier" not in n)
    L2SP().loss(torch.tensor(0.0), None, {}, tiny_state)
    tiny_state.step = 1
    assert tiny_state.start
