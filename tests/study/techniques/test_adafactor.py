"""Adafactor's first step by hand, and the size of its states."""

import pytest
import torch

from study.techniques import Adafactor
from study.techniques.state import plain_groups
from study.training.memory import state_bytes
from tests.heads import state_of


def test_the_first_step_by_hand():
    """With beta2 = 0 the second moments are the squared gradient, as a product of row and column.

    R = row means, C = column means; V = R C / mean(R); the update g / sqrt(V) has a root mean
    square above 1 and is scaled to 1; then lr times the weights' root mean square.
    """
    state = state_of("bert")
    layer = torch.nn.Linear(3, 2, bias=False)
    start = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
    with torch.no_grad():
        layer.weight.copy_(start)
    state.model = torch.nn.ModuleDict({"classifier": layer})
    state.recipe = state.recipe.replace(lr=1e-2, weight_decay=0.1)
    optimizer = Adafactor().optimizer(plain_groups(state), state)
    gradient = torch.tensor([[1.0, 2.0, -4.0], [0.1, -0.2, 0.4]])
    layer.weight.grad = gradient.clone()
    optimizer.step()
    squares = gradient.double() ** 2
    rows, columns = squares.mean(1, keepdim=True), squares.mean(0, keepdim=True)
    update = gradient.double() / (rows * columns / rows.mean()).sqrt()
    update /= max(1.0, update.pow(2).mean().sqrt().item())
    size = start.double().pow(2).mean().sqrt()
    expected = start.double() * (1 - 1e-2 * 0.1) - 1e-2 * size * update
    torch.testing.assert_close(layer.weight.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(128, 64)])
def test_a_matrix_has_a_row_and_a_column(shape):
    state = state_of("bert")
    layer = torch.nn.Linear(shape[1], shape[0])
    state.model = torch.nn.ModuleDict({"classifier": layer})
    optimizer = Adafactor().optimizer(plain_groups(state), state)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert state_bytes(optimizer) == 4 * (128 + 64 + 128 + 2)  # a bias in full, and two counts
