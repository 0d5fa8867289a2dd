"""Probing trains the head on fixed features; fine-tuning continues within the recipe's epochs."""

import pytest

from study import Standard, Study
from study.core.recipe import Recipe
from study.core.spec import SpecError
from study.planning.preflight import problems
from study.techniques import ProbeThenTune
from study.techniques.base import Technique
from study.techniques.state import Phase

HEAD = ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight")
HEAD = (*HEAD, "classifier.bias")


def test_phases_by_hand(tiny_state):
    whole = Phase(Recipe(lr=2e-5, epochs=10), tiny_state.trainable)
    assert ProbeThenTune(epochs=3, lr=1e-3).phases([whole], tiny_state) == [
        Phase(Recipe(lr=1e-3, epochs=3), HEAD),
        Phase(Recipe(lr=2e-5, epochs=7), tiny_state.trainable),
    ]


class HeadOnly(Technique):
    """Plain fine-tuning of the head, the encoder frozen."""

    def prepare(self, state):  # type: ignore[no-untyped-def]
        state.freeze(n for n in state.trainable if n not in HEAD)


def test_probing_is_training_with_a_frozen_encoder(tiny_run):
    probed = tiny_run(ProbeThenTune(epochs=2, lr=1e-2), epochs=3, dropout=0.0)
    frozen = tiny_run(HeadOnly(), epochs=2, lr=1e-2, dropout=0.0)
    assert {k: v[:2] for k, v in probed.curves.items()} == frozen.curves
    assert probed.facts["steps"] == 3 * 4  # both phases are in the budget


SEEN: list[tuple[bool, bool, float]] = []
OPTIMIZERS: list[int] = []


class PhaseRecorder(Technique):
    """Records the learning rate, and whether dropout is on in the encoder and the head."""

    def optimizer(self, groups, state):  # type: ignore[no-untyped-def]
        OPTIMIZERS.append(state.step)

    def after_step(self, state):  # type: ignore[no-untyped-def]
        body = [m.training for m in state.model.bert.modules()]
        assert len(set(body)) == 1
        SEEN.append((body[0], state.model.dropout.training, state.rates["classifier.weight"]))


def test_dropout_optimizer_and_schedule_of_each_phase(tiny_run):
    """A fault of other code: one optimizer and one schedule over both phases."""
    SEEN.clear()
    OPTIMIZERS.clear()
    recipe = {"epochs": 2, "lr": 0.1, "warmup": 0.5}  # 4 steps per epoch
    tiny_run(ProbeThenTune(epochs=1, lr=1.0) + PhaseRecorder(), **recipe)
    factors = [0.5, 1.0, 1.0, 0.5]
    assert [(body, head) for body, head, _ in SEEN] == [(False, True)] * 4 + [(True, True)] * 4
    assert [rate for *_, rate in SEEN] == pytest.approx([*factors, *(0.1 * f for f in factors)])
    assert OPTIMIZERS == [0, 4]


def test_probing_that_leaves_no_epoch_is_refused_before_anything_runs(task, model):
    with pytest.raises(SpecError, match="3 epochs of probing leave none of the recipe's 3"):
        ProbeThenTune(epochs=3).recipe(Recipe(epochs=3))
    study = Study(
        name="s",
        tasks=[task],
        models=[model],
        techniques=[Standard(), ProbeThenTune(epochs=5)],
        seeds=[0],
    )
    (mistake,) = problems(study)
    assert str(mistake) == (
        "techniques[1].epochs: 5 epochs of probing leave none of the recipe's 3."
    )
