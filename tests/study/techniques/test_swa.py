"""SWA: the mean of the last weights, and the constant learning rate it needs."""

import numpy as np
import pytest
import torch

from study.techniques import SWA
from tests.conftest import RATES, RateRecorder

NAME = "classifier.bias"


def test_the_mean_by_hand(tiny_state):
    """Of eight steps the last two are averaged; before that the weights themselves count."""
    technique, counted = SWA(start=0.75), []
    tiny_state.steps = 8
    technique.prepare(tiny_state)
    for value in [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 1.0, 2.0]:
        with torch.no_grad():
            tiny_state.model.get_parameter(NAME).fill_(value)
        tiny_state.step += 1
        technique.after_step(tiny_state)
        weights = dict(tiny_state.model.named_parameters())
        counted.append(technique.evaluated(weights, tiny_state)[NAME][0].item())
    assert counted == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 1.0, 1.5]


def test_the_learning_rate_is_held_when_averaging_starts(tiny_run):
    """Averaging under a rate that falls to 0 would average almost equal weights."""
    RATES.clear()
    tiny_run(SWA() + RateRecorder(), lr=1.0, warmup=0.0)  # 8 steps
    assert pytest.approx([8 / 8, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 2 / 8]) == RATES


def test_an_average_of_the_last_step_changes_nothing(tiny_run):
    alone, plain = tiny_run(SWA(start=0.9)), tiny_run()  # starts after step 7 of 8
    assert alone.curves == plain.curves
    assert np.array_equal(alone.logits["test"], plain.logits["test"])


def test_training_continues_from_its_own_weights(tiny_run):
    """The average must not enter the trained weights."""
    held = tiny_run(hold=0.5, epochs=4)
    averaged = tiny_run(SWA(start=0.5), epochs=4)
    assert averaged.curves["train/loss"] == held.curves["train/loss"]
    assert not np.array_equal(averaged.logits["dev"], held.logits["dev"])
