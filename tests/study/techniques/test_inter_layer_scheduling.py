"""Inter-layer scheduling by hand: units, sweep, scores, selection; what is frozen stays as is."""

import math
from dataclasses import replace

import pytest
import torch
import transformers as hf

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.core.spec import Invalid
from study.models.families import depths_of
from study.tasks.kinds import KINDS
from study.tasks.metrics import METRICS
from study.techniques import BitFit, InterLayerScheduling, Standard
from study.techniques.inter_layer_scheduling import NAME, UNVISITED, _change, units_of
from study.techniques.state import Phase, TrainState, plain_groups
from study.training.fit import Setting
from study.training.step import one_step, set_trainable
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE
from tests.heads import batch_of, state_of


def meta_state(config: hf.PreTrainedConfig, head: str) -> TrainState:
    with torch.device("meta"):
        model = getattr(hf, head).from_config(config)
    kind = KINDS["classification"](("a", "b"))
    return TrainState(model, Recipe(), Seed(0, 0, 0), depths_of(model), CPU, kind, lambda: iter(()))


@pytest.mark.parametrize(
    ("config", "head", "count"),
    [
        (hf.BertConfig, "AutoModelForSequenceClassification", 102),
        (hf.BertConfig, "AutoModelForQuestionAnswering", 101),
        (hf.ViTConfig, "AutoModelForImageClassification", 100),
    ],
)
def test_units_of_published_models(config, head, count):
    assert len(units_of(meta_state(config(), head))) == count


@pytest.mark.parametrize(
    ("units", "rate", "frozen"), [(102, 0.95, 96), (102, 0.9, 91), (102, 0.8, 81), (100, 0.75, 75)]
)
def test_published_numbers_of_frozen_units(units, rate, frozen):
    technique, names = InterLayerScheduling(freeze_rate=rate), [f"u{i}" for i in range(units)]
    memo = {"scores": {name: float(i) for i, name in enumerate(names)}, "visits": {}}
    assert technique._lowest(names, memo, None) == names[:frozen]


def test_a_score_by_hand():
    old, new = torch.tensor([1.0, 2.0, -4.0]), torch.tensor([1.1, 1.8, -3.6])
    assert _change(old, new, "relative").item() == pytest.approx(0.1)
    assert _change(old, new, "ratio").item() == pytest.approx(0.7 / 7)
    zero = torch.tensor([0.0, 2.0, -4.0])  # the first is left out, and counts in the divisor
    assert _change(zero, new, "relative").item() == pytest.approx(0.2 / 3)
    assert _change(torch.zeros(3), new, "relative").item() == 0.0


def run_steps(technique, state, steps, *, rates=None):
    """Train, and give the active units of each step."""
    batch, seen = batch_of("bert"), []
    state.batches = lambda: iter([batch])
    technique.prepare(state)
    phase = technique.phases([Phase(state.recipe, state.trainable)], state)[0]
    groups = plain_groups(state)
    optimizer = torch.optim.AdamW([state.parameters(group) for group in groups], fused=True)
    for step in range(steps):
        lr = 1e-3 if rates is None else rates[step]
        for own in optimizer.param_groups:
            own["lr"] = lr
        state.rates = {name: lr for group in groups for name in group.names}
        one_step(technique, state, phase, optimizer, batch)
        units = state.memo[NAME]["scores"]
        seen.append(
            [n for n, p in state.model.named_parameters() if p.requires_grad and n in units]
        )
    return seen, optimizer


def fresh(**recipe):
    return replace(state_of("bert"), recipe=Recipe(warmup=0.0).replace(**recipe))


@pytest.mark.parametrize("selection", ["score", "round_robin"])
def test_training_opens_with_a_sweep_over_all_units(selection):
    state = fresh()
    units, technique = units_of(state), InterLayerScheduling(freeze_rate=0.8, selection=selection)
    chosen = len(units) - int(0.8 * len(units))
    sweep = math.ceil(len(units) / chosen)
    seen, _ = run_steps(technique, state, sweep)
    assert all(len(step) == chosen for step in seen)
    visits = state.memo[NAME]["visits"]
    assert set(visits.values()) <= {1, 2}
    assert sum(visits.values()) == sweep * chosen
    assert max(state.memo[NAME]["scores"].values()) < UNVISITED / 1e3 or selection != "score"


def test_random_and_static_selection():
    seen, _ = run_steps(InterLayerScheduling(freeze_rate=0.8, selection="random"), fresh(), 4)
    assert len({tuple(step) for step in seen}) > 1
    seen, _ = run_steps(InterLayerScheduling(freeze_rate=0.8, selection="static"), fresh(), 4)
    assert len({tuple(step) for step in seen}) == 1


def test_gradients_of_active_units_are_those_of_full_training_and_others_have_none():
    gradients = {}
    for technique in (Standard(), InterLayerScheduling(freeze_rate=0.7)):
        state = fresh(clip_norm=None)
        state.reseed()
        set_trainable(state, technique.active(state.trainable, state))
        state.forward(batch_of("bert")).loss.backward()
        gradients[technique.title] = {n: p.grad for n, p in state.model.named_parameters()}
    full, own = gradients["Standard"], gradients[NAME]
    active = [name for name, gradient in own.items() if gradient is not None]
    assert 0 < len(active) < len(full)
    assert all(torch.equal(own[name], full[name]) for name in active)


def test_what_is_frozen_keeps_weights_and_moments():
    state = fresh()
    technique = InterLayerScheduling(freeze_rate=0.5)
    _, optimizer = run_steps(technique, state, 3)
    before = {n: p.detach().clone() for n, p in state.model.named_parameters()}
    moments = {
        name: {k: v.clone() for k, v in optimizer.state[state.model.get_parameter(name)].items()}
        for name in before
        if state.model.get_parameter(name) in optimizer.state
    }
    phase = Phase(state.recipe, tuple(before))
    one_step(technique, state, phase, optimizer, batch_of("bert"))
    frozen = [n for n, p in state.model.named_parameters() if not p.requires_grad]
    assert frozen
    for name in frozen:
        parameter = state.model.get_parameter(name)
        assert torch.equal(parameter, before[name])
        assert all(torch.equal(v, moments[name][k]) for k, v in optimizer.state[parameter].items())


def test_a_rate_of_zero_or_a_warm_up_does_not_starve_the_first_units():
    """At a rate of 0 the units of the first step would score 0, and never train again."""
    state = fresh()
    technique = InterLayerScheduling(freeze_rate=0.8)
    seen, _ = run_steps(technique, state, 6, rates=[0.0, *[1e-3] * 5])
    assert seen[1] == seen[0]  # they keep their priority
    warm = fresh(warmup=0.5)
    run_steps(technique, warm, 6, rates=[1e-6, *[1e-3] * 5])
    scores = warm.memo[NAME]["scores"]
    first = [scores[name] for name in seen[0] if name.endswith("dense.weight")]
    # Divided by the rate, a first step of Adam scores the same at any rate: |w| in units of it.
    plain = fresh()
    run_steps(technique, plain, 1, rates=[1e-3])
    later = [plain.memo[NAME]["scores"][n] / 1e-3 for n in seen[0] if n.endswith("dense.weight")]
    assert first == pytest.approx(later, rel=0.5)


def test_without_frozen_units_it_is_full_training_bit_for_bit(prepared, loaded):
    weights = []
    for technique in (Standard(), InterLayerScheduling(freeze_rate=1e-3)):
        setting = Setting(RECIPE, technique, Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
        model = train(setting, prepared.splits, loaded, CPU)[1]
        weights.append(dict(model.named_parameters()))
    assert all(torch.equal(p, weights[1][name]) for name, p in weights[0].items())


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.5])
def test_bad_input_is_refused(rate):
    assert isinstance(InterLayerScheduling(freeze_rate=rate), Invalid)
    assert isinstance(InterLayerScheduling(freeze_rate=0.9) + BitFit(), Invalid)


def test_the_optimizer_counts_with_all_units_that_were_ever_trained(prepared, loaded):
    """In the step that is measured only some have moments; in the end all have."""
    setting = Setting(
        RECIPE, InterLayerScheduling(freeze_rate=0.9), Seed(0, 0, 0), METRICS["accuracy"], PAIRS
    )
    outcome, model = train(setting, prepared.splits, loaded, CPU)
    moments = 2 * 4 * sum(p.numel() for p in model.parameters())
    steps = 4 * len(list(model.parameters()))
    assert outcome.facts["optimizer_bytes"] == moments + steps
    assert outcome.facts["gradients_bytes"] < moments / 2
