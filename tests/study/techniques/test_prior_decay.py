"""Prior decay worked by hand, and without the faults of published code."""

import pytest
import torch

from study.core.seeding import Seed
from study.tasks.metrics import METRICS
from study.techniques import FreezeLower, PriorDecay, ReinitTop, Standard, Technique
from study.training.fit import Setting
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE

ONE_STEP = RECIPE.replace(epochs=1, batch_size=32, warmup=0.0, weight_decay=0.1)


def trained(technique: Technique, data, loaded) -> dict[str, torch.Tensor]:
    """The weights after a single step at the full learning rate."""
    setting = Setting(ONE_STEP, technique, Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    outcome, model = train(setting, data, loaded, CPU)
    assert outcome.facts["steps"] == 1
    return {n: p.detach() for n, p in model.named_parameters()}


def test_one_step_by_hand(data, loaded):
    """After the usual step, weight decay included: w - lr * rate * (w - w0), in the head - w."""
    rate = 2.0
    plain = trained(Standard(), data, loaded)
    pulled = trained(PriorDecay(rate=rate), data, loaded)
    start = {n: p.detach() for n, p in loaded.fresh(Seed(0, 0, 0), None).named_parameters()}
    for name, weight in plain.items():
        if name.endswith("bias") or "LayerNorm" in name:
            wanted = weight
        elif name in ("bert.pooler.dense.weight", "classifier.weight"):
            wanted = weight - ONE_STEP.lr * rate * weight
        else:
            wanted = weight - ONE_STEP.lr * rate * (weight - start[name])
        assert torch.allclose(pulled[name], wanted, rtol=1e-6, atol=1e-8), name
        if wanted is not weight:
            assert not torch.equal(pulled[name], weight), name


def test_rate_0_changes_nothing(tiny_run):
    assert tiny_run(PriorDecay(rate=0.0)).curves == tiny_run(Standard()).curves


def test_the_head_is_not_pulled_to_its_random_start(tiny_state):
    """The code of Zhang et al. 2021 is meant to leave out the last group but does not."""
    technique = PriorDecay(rate=1.0)
    technique.prepare(tiny_state)
    tiny_state.rates = dict.fromkeys(tiny_state.trainable, 0.5)
    weight = tiny_state.model.get_parameter("classifier.weight")
    before = weight.detach().clone()
    technique.after_step(tiny_state)
    assert torch.equal(weight, before / 2)


def test_the_rate_follows_the_schedule(tiny_state):
    technique = PriorDecay(rate=1.0)
    technique.prepare(tiny_state)
    low, high = (f"bert.encoder.layer.{i}.output.dense.weight" for i in (0, 1))
    with torch.no_grad():
        for name in (low, high):
            tiny_state.model.get_parameter(name).add_(1.0)
    tiny_state.rates = dict.fromkeys(tiny_state.trainable, 0.0) | {low: 0.1, high: 0.4}
    technique.after_step(tiny_state)
    for name, left in ((low, 0.9), (high, 0.6)):
        distance = tiny_state.model.get_parameter(name) - tiny_state.start[name]
        assert torch.allclose(distance, torch.full_like(distance, left)), name


@pytest.mark.parametrize("other", [FreezeLower(layers=1), ReinitTop(layers=1)])
def test_it_pulls_towards_the_weights_before_training(tiny_state, other):
    """Re-initialised layers towards their new values; frozen ones are not pulled."""
    both = other + PriorDecay(rate=1.0)
    both.weights(tiny_state)
    both.prepare(tiny_state)
    before = {n: p.detach().clone() for n, p in tiny_state.model.named_parameters()}
    tiny_state.rates = dict.fromkeys(tiny_state.trainable, 0.5)
    both.after_step(tiny_state)
    for name, parameter in tiny_state.model.named_parameters():
        in_head = name in ("bert.pooler.dense.weight", "classifier.weight")
        assert torch.equal(parameter, before[name]) != in_head, name
