"""BitFit trains biases and head, and refuses models without biases."""

import pytest

from study.core.spec import Invalid
from study.techniques import Adapters, BitFit, LoRA, ReinitTop
from tests.families import ALL, state_of

BARE = ("modernbert", "llama")


def test_names_by_hand(tiny_state):
    BitFit().prepare(tiny_state)
    layer = [
        f"{part}.bias"
        for part in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "attention.output.LayerNorm",
            "intermediate.dense",
            "output.dense",
            "output.LayerNorm",
        )
    ]
    head = ["bert.pooler.dense", "classifier"]
    assert sorted(tiny_state.trainable) == sorted(
        [
            "bert.embeddings.LayerNorm.bias",
            *(f"bert.encoder.layer.{i}.{name}" for i in (0, 1) for name in layer),
            *(f"{module}.{kind}" for module in head for kind in ("weight", "bias")),
        ]
    )


@pytest.mark.parametrize("kind", ALL)
def test_it_objects_exactly_where_the_layers_have_no_biases(kind):
    state = state_of(kind)
    objection = BitFit().objection(state.depths, "classification")
    assert objection == ("its layers have no biases to train" if kind in BARE else None)
    BitFit().prepare(state)
    below = [n for n in state.trainable if state.depths.of(n) < state.depths.head]
    assert (not below) == (kind in BARE)


@pytest.mark.parametrize("other", [LoRA(), Adapters(), ReinitTop(layers=1)])
def test_combinations_that_freeze_each_other_are_refused(other):
    assert isinstance(BitFit() + other, Invalid)
