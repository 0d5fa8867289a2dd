"""BAdam visits every layer once a round, and never trains the embeddings."""

import torch

from study.core.seeding import Seed
from study.tasks.metrics import METRICS
from study.techniques import LISA, BAdam
from study.training.fit import Setting
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE
from tests.heads import state_of
from tests.study.techniques.test_lisa import trained_depths


def test_a_round_visits_every_layer_once():
    state, technique = state_of("electra"), BAdam(interval=2)
    technique.prepare(state)
    layers, head = state.depths.layers, state.depths.head
    orders = set()
    for number in range(30):
        order = []
        for place in range(layers):
            step = (number * layers + place) * 2
            first, second = (trained_depths(technique, state, step + i) for i in range(2))
            assert first == second
            (layer,) = first - {head}
            order.append(layer)
        assert sorted(order) == list(range(1, layers + 1))
        orders.add(tuple(order))
    assert len(orders) > 1  # the order is drawn anew


def test_frozen_layers_have_no_turn():
    """Else two of three steps would train the head alone."""
    state = state_of("electra")
    for technique in (BAdam(interval=1), LISA(layers=1, interval=1)):
        state.freeze(n for n in state.trainable if state.depths.of(n) in (1, 2))
        last = {depth for step in range(6) for depth in trained_depths(technique, state, step)}
        assert last - {0, state.depths.head} == {3}
        assert all(3 in trained_depths(technique, state, step) for step in range(6))


def test_the_embeddings_stay_as_pretrained(tiny_state):
    technique = BAdam()
    assert set(technique.frozen(tiny_state.depths)) == {0}
    technique.prepare(tiny_state)
    frozen = {n for n, p in tiny_state.model.named_parameters() if not p.requires_grad}
    assert frozen
    assert {tiny_state.depths.of(name) for name in frozen} == {0}


def test_short_runs_leave_layers_untrained(data, loaded):
    """As the docstring says: one layer of two in a run of fewer steps than an interval."""
    setting = Setting(RECIPE, BAdam(), Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    _, trained = train(setting, data, loaded, CPU)
    fresh = loaded.fresh(Seed(0, 0, 0), None)
    moved = {
        name.split("layer.")[1][0]
        for name, p in fresh.named_parameters()
        if "layer." in name and not torch.equal(p, trained.get_parameter(name))
    }
    assert len(moved) == 1
