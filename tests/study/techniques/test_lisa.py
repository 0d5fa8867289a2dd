"""LISA draws layers at every interval, keeps only their moments, and refuses to train all."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from study.core.seeding import Seed
from study.core.spec import Invalid
from study.tasks.metrics import METRICS
from study.techniques import LISA, GradualUnfreezing, Standard, Technique
from study.training.fit import Setting, begin
from study.training.step import drop_states_of_frozen
from tests.conftest import CPU, PAIRS, RECIPE
from tests.heads import state_of


def trained_depths(technique: Technique, state, step: int) -> set[int]:
    state.step = step
    return {state.depths.of(name) for name in technique.active(state.trainable, state)}


def test_layers_are_drawn_uniformly_and_stay_for_an_interval():
    state, technique = state_of("electra"), LISA(layers=1, interval=3)
    layers, head = state.depths.layers, state.depths.head
    counts: Counter[int] = Counter()
    for period in range(300):
        first, *others = (trained_depths(technique, state, 3 * period + i) for i in range(3))
        assert others == [first, first]
        assert {0, head} < first
        assert len(first) == 3
        counts.update(first - {0, head})
    expected = 300 / layers
    assert set(counts) == set(range(1, layers + 1))
    # Each count is binomial; four standard deviations.
    bound = 4 * (expected * (1 - 1 / layers)) ** 0.5
    assert all(abs(count - expected) < bound for count in counts.values())


def test_other_seeds_draw_other_layers():
    draws = set()
    for number in range(20):
        state = state_of("electra")
        state.seed = Seed(0, 0, number)
        draws.add(tuple(sorted(trained_depths(LISA(layers=1), state, 0))))
    assert len(draws) > 1


def test_only_layers_in_training_have_moments(data, loaded):
    """Without that the optimizer would in time hold those of all layers."""
    technique = LISA(layers=1, interval=1)
    setting = Setting(RECIPE, technique, Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    fit = begin(setting, data, loaded, CPU)
    names = {p: name for name, p in fit.state.model.named_parameters()}
    head, seen = fit.state.depths.head, set()

    def look() -> None:
        held = {fit.state.depths.of(names[p]) for p in fit._optimizer.state}
        assert len(held) == 3
        seen.update(held - {0, head})
        for p, state in fit._optimizer.state.items():
            if fit.state.depths.of(names[p]) in (0, head):
                assert state["step"] == fit.state.step, names[p]

    for _ in fit.epochs(after_step=look):
        pass
    assert seen == {1, 2}  # so both layers were drawn, and lost their moments in between
    whole = begin(replace(setting, technique=Standard()), data, loaded, CPU)
    for _ in whole.epochs():
        pass
    assert fit.memory.optimizer < whole.memory.optimizer


def test_a_layer_drawn_again_starts_afresh():
    """Its first update is that of Adam's first step, of the size of the learning rate."""
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        weight.grad = torch.full((4,), 5.0)
        optimizer.step()
    weight.requires_grad_(False)
    drop_states_of_frozen(optimizer)
    weight.requires_grad_(True)
    before = weight.detach().clone()
    weight.grad = torch.full((4,), -1e-3)
    optimizer.step()
    torch.testing.assert_close(weight.detach() - before, torch.full((4,), 0.1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("layers", [2, 3])
def test_a_model_without_more_layers_is_refused(tiny_state, layers):
    assert "2 layers" in LISA(layers=layers).objection(tiny_state.depths, "classification")
    assert LISA(layers=1).objection(tiny_state.depths, "classification") is None


def test_two_that_choose_what_a_step_trains_are_refused():
    refused = LISA() + GradualUnfreezing()
    assert isinstance(refused, Invalid)
    assert "each chooses which weights" in str(refused.error)
