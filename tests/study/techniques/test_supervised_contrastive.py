import math

import numpy as np
import pytest
import torch

from study.techniques import SupervisedContrastive
from study.techniques.supervised_contrastive import supervised_contrast
from tests.heads import batch_of, state_of


def test_weight_zero_changes_nothing(tiny_run):
    plain, zero = tiny_run(), tiny_run(SupervisedContrastive(weight=0.0))
    assert zero.curves == plain.curves
    assert np.array_equal(zero.logits["test"], plain.logits["test"])


def test_three_examples_by_hand():
    """Two equal ones of class 0, orthogonal to one of class 1; temperature 1.

    Each of the two gives its partner e / (e + 1) of the similarity; the third has no partner.
    """
    summaries = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])  # lengths do not matter
    expected = 2 / 3 * math.log(1 + math.exp(-1))
    loss = supervised_contrast(summaries, torch.tensor([0, 0, 1]), 1.0)
    assert loss.item() == pytest.approx(expected)


def test_two_partners_by_hand():
    """Three equal examples of one class: each has two partners at 1/2, so the loss is ln 2."""
    loss = supervised_contrast(torch.ones(3, 2), torch.zeros(3), 0.1)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0]])
def test_without_positives_it_is_zero_and_so_is_its_gradient(labels):
    summaries = torch.randn(len(labels), 4, requires_grad=True)
    loss = supervised_contrast(summaries, torch.tensor(labels), 0.3)
    (gradient,) = torch.autograd.grad(loss, summaries)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(("family", "last"), [("bert", [0, 0, 0, 0]), ("llama", [4, 6, 6, 6])])
def test_decoders_are_read_at_the_last_token(family, last):
    """The first token of a decoder attends to no other; the first row has two padding tokens."""
    state, batch = state_of(family), batch_of(family)
    technique = SupervisedContrastive(weight=1.0)
    technique.prepare(state)
    outputs = state.forward(batch)
    summaries = outputs.hidden_states[-1][range(4), last]
    expected = supervised_contrast(summaries, batch["labels"], 0.3)
    assert technique.loss(outputs.loss, outputs, batch, state) == expected


@pytest.mark.parametrize("kind", ["regression", "multilabel", "tagging", "span"])
def test_tasks_without_one_class_per_example_are_refused(kind, tiny_state):
    refused = SupervisedContrastive().objection(tiny_state.depths, kind)
    assert refused == f"it needs one class per example, which {kind} does not have"
