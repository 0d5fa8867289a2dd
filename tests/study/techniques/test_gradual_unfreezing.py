"""Gradual unfreezing unfreezes from the head down, at equal intervals."""

import pytest
import torch

from study.techniques import GradualUnfreezing
from study.techniques.base import Technique


def trained_depths(technique, state, step):
    state.step = step
    return sorted({state.depths.of(n) for n in technique.active(state.trainable, state)})


def test_the_schedule_by_hand(tiny_state):  # embeddings 0, layers 1 and 2, head 3
    tiny_state.steps = 12
    depths = [trained_depths(GradualUnfreezing(share=0.5), tiny_state, s) for s in range(12)]
    assert depths == [
        *[[3]] * 2,
        *[[2, 3]] * 2,
        *[[1, 2, 3]] * 2,
        *[[0, 1, 2, 3]] * 6,
    ]


@pytest.mark.parametrize("steps", [1, 4, 31, 1000])
def test_by_default_everything_is_trained_after_a_third(tiny_state, steps):
    """A fault of other code: the lowest layers unfreeze when the rate is 0, or never."""
    tiny_state.steps = steps
    whole = [0, 1, 2, 3]
    assert trained_depths(GradualUnfreezing(), tiny_state, -(-steps // 3)) == whole
    assert trained_depths(GradualUnfreezing(), tiny_state, 0) == [3]


def test_share_0_changes_nothing(tiny_run):
    plain = tiny_run().curves
    assert tiny_run(GradualUnfreezing(share=0.0)).curves.items() >= plain.items()


MOVED: list[list[int]] = []


class DepthRecorder(Technique):
    """Records the depths whose weights changed in each step."""

    def before_step(self, state):  # type: ignore[no-untyped-def]
        named = state.model.named_parameters()
        state.memo["DepthRecorder"] = {n: p.detach().clone() for n, p in named}

    def after_step(self, state):  # type: ignore[no-untyped-def]
        before = state.memo["DepthRecorder"]
        moved = {
            state.depths.of(n)
            for n, p in state.model.named_parameters()
            if not torch.equal(before[n], p)
        }
        MOVED.append(sorted(moved))


def test_frozen_layers_stay_bit_identical_under_weight_decay(tiny_run):
    MOVED.clear()
    tiny_run(GradualUnfreezing(share=0.75) + DepthRecorder(), weight_decay=0.5)  # 8 steps
    assert MOVED == [[3], [3], [2, 3], [2, 3], [1, 2, 3], [1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_the_curves_say_what_was_trained_when(tiny_run):
    """The schedule above: eight steps in two epochs; embeddings, two layers, head."""
    curves = tiny_run(GradualUnfreezing(share=0.75)).curves
    found = {name: values for name, values in curves.items() if name.startswith("trained/")}
    assert found == {
        "trained/depth_00": [0.0, 0.5],
        "trained/depth_01": [0.0, 1.0],
        "trained/depth_02": [0.5, 1.0],
        "trained/depth_03": [1.0, 1.0],
    }
    assert set(tiny_run().curves) == {"train/loss", "dev/accuracy"}
