"""EMA against its closed form, and without effect on training."""

import numpy as np
import pytest
import torch

from study.techniques import EMA, FreezeLower

NAME = "classifier.bias"


def average(technique, state, values):
    """The evaluated classifier bias after it took these values, one per step."""
    technique.prepare(state)
    for value in values:
        with torch.no_grad():
            state.model.get_parameter(NAME).fill_(value)
        state.step += 1
        technique.after_step(state)
    weights = dict(state.model.named_parameters())
    return technique.evaluated(weights, state)[NAME][0].item()


def test_the_closed_form(tiny_state):
    beta, values = 0.8, [3.0, -1.0, 4.0, 1.0, -5.0]
    tiny_state.steps = 5
    weighted = sum(beta ** (5 - i) * (1 - beta) * v for i, v in enumerate(values, 1))
    expected = weighted / (1 - beta**5)
    assert average(EMA(beta=beta), tiny_state, values) == pytest.approx(expected, rel=1e-6)


def test_the_average_of_a_short_run_excludes_the_start(tiny_state):
    """A fault of other code: at beta 0.999, 10 steps leave 99% of the initial weights."""
    tiny_state.steps = 10
    with torch.no_grad():
        tiny_state.model.get_parameter(NAME).fill_(100.0)
    assert average(EMA(beta=0.999), tiny_state, [1.0] * 10) == pytest.approx(1.0, rel=1e-6)


def test_the_default_spans_a_tenth_of_the_run(tiny_state):
    tiny_state.steps = 200
    values = [0.0] * 199 + [1.0]
    expected = 0.05 / (1 - 0.95**200)  # beta = 1 - 10 / 200
    assert average(EMA(), tiny_state, values) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("technique", [EMA(beta=0.0), EMA()])  # 8 steps: 1 - 10 / 8 is below 0
def test_beta_0_changes_nothing(technique, tiny_run):
    assert np.array_equal(tiny_run(technique).logits["test"], tiny_run().logits["test"])


def test_training_is_unchanged(tiny_run):
    averaged, plain = tiny_run(EMA(beta=0.9), epochs=4), tiny_run(epochs=4)
    assert averaged.curves["train/loss"] == plain.curves["train/loss"]
    assert not np.array_equal(averaged.logits["dev"], plain.logits["dev"])


def test_only_trained_parameters_are_averaged(tiny_state):
    FreezeLower(layers=2).prepare(tiny_state)
    EMA().prepare(tiny_state)
    assert tuple(tiny_state.memo["EMA"]) == tiny_state.trainable
    assert {t.dtype for t in tiny_state.memo["EMA"].values()} == {torch.float32}
