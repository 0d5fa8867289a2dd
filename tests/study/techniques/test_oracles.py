"""Techniques against a closed form or a case worked by hand."""

import numpy as np
import pytest
import torch

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.core.spec import Invalid
from study.models.families import FAMILIES, Depths
from study.techniques import (
    L2SP,
    Adapters,
    BiasedAdam,
    ChildTuningD,
    FreezeLower,
    LayerwiseDecay,
    LoRA,
    PriorDecay,
    RecAdam,
    ReinitTop,
    Standard,
)
from study.techniques.biased_adam import UncorrectedAdamW
from study.techniques.state import plain_groups
from tests.heads import state_of


def test_rates_by_hand(tiny_state):  # two layers, recipe.lr = 1.0
    groups = LayerwiseDecay(rate=0.5).groups(plain_groups(tiny_state), tiny_state)
    assert {g.depth: g.lr for g in groups} == {0: 0.125, 1: 0.25, 2: 0.5, 3: 1.0}


def test_rate_one_changes_nothing(tiny_state):
    plain = plain_groups(tiny_state)
    assert LayerwiseDecay(rate=1.0).groups(plain, tiny_state) == plain


def test_layerwise_decay_keeps_weight_decay(tiny_state):
    plain = plain_groups(tiny_state)
    groups = LayerwiseDecay(rate=0.5).groups(plain, tiny_state)
    assert [g.weight_decay for g in groups] == [g.weight_decay for g in plain]


def test_norms_and_biases_have_no_weight_decay(tiny_state):
    for group in plain_groups(tiny_state):
        for name in group.names:
            bare = name.endswith("bias") or "LayerNorm" in name
            assert group.weight_decay == (0.0 if bare else 0.01), name


def effective_rates(steps: int) -> list[float]:
    """Step size over lr under a constant gradient, without eps: m / sqrt(v)."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    group = {"params": [weight], "lr": 1.0, "weight_decay": 0.0}
    optimizer = UncorrectedAdamW([group], betas=(0.9, 0.999), eps=0.0)
    sizes = []
    for _ in range(steps):
        before = weight.item()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        sizes.append(before - weight.item())
    return sizes


def test_biased_adam_closed_form():
    """(1 - b1^t) / sqrt(1 - b2^t): 3.16 at the first step, 6.53 at the tenth, 3.24 at the 100th."""
    sizes = effective_rates(100)
    closed = [(1 - 0.9**t) / np.sqrt(1 - 0.999**t) for t in range(1, 101)]
    assert sizes == pytest.approx(closed)
    assert [round(sizes[t - 1], 2) for t in (1, 10, 100)] == [3.16, 6.53, 3.24]


def test_biased_adam_decays_weights_as_adamw_does():
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.zeros(1)
    group = {"params": [weights[0]], "lr": 0.1, "weight_decay": 0.5}
    UncorrectedAdamW([group], betas=(0.9, 0.999), eps=1e-6).step()
    torch.optim.AdamW([weights[1]], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(*weights)


def test_biased_adam_has_no_warm_up():
    assert BiasedAdam().recipe(Recipe(warmup=0.5, lr=1e-3)) == Recipe(warmup=0.0, lr=1e-3)


@pytest.mark.parametrize("layers", [0, 1])
def test_frozen_weights_stay_bit_for_bit(tiny_state, layers):
    FreezeLower(layers=layers).prepare(tiny_state)
    for name, parameter in tiny_state.model.named_parameters():
        assert parameter.requires_grad == (tiny_state.depths.of(name) > layers), name


def test_freezing_leaves_something_to_train():
    depths = Depths(FAMILIES["bert"], 6)
    assert FreezeLower(layers=5).objection(depths, "classification") is None
    assert FreezeLower(layers=6).objection(depths, "classification") == (
        "layers=6 leaves none of its 6 layers to train"
    )
    assert (
        FreezeLower(layers=1).objection(Depths(FAMILIES["albert"], 1), "classification") is not None
    )


def test_reinit_draws_the_top_layers_and_keeps_the_rest(tiny_state):
    before = {n: p.detach().clone() for n, p in tiny_state.model.named_parameters()}
    ReinitTop(layers=1).weights(tiny_state)
    for name, parameter in tiny_state.model.named_parameters():
        changed = name.startswith(("bert.encoder.layer.1.", "bert.pooler."))
        if name.endswith("bias") or "LayerNorm" in name:
            continue  # 0 and 1 before and after
        assert torch.equal(parameter, before[name]) != changed, name
    drawn = tiny_state.model.get_parameter("bert.encoder.layer.1.intermediate.dense.weight")
    assert drawn.std().item() == pytest.approx(0.02, rel=0.15)


def test_reinit_does_not_change_the_head(tiny_state):
    """Techniques are compared on the same new heads."""
    before = tiny_state.model.get_parameter("classifier.weight").detach().clone()
    ReinitTop(layers=2).weights(tiny_state)
    assert torch.equal(tiny_state.model.get_parameter("classifier.weight"), before)


def test_the_start_has_the_re_initialised_values(tiny_state):
    """Else penalties would pull back to the pretrained values that were discarded."""
    ReinitTop(layers=1).weights(tiny_state)
    name = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(tiny_state.start[name], tiny_state.model.get_parameter(name))


@pytest.mark.parametrize("inserting", [LoRA(), Adapters()])
@pytest.mark.parametrize(
    "pulling", [L2SP(alpha=1.0, beta=0.0), PriorDecay(rate=1.0), RecAdam(gamma=0.5)]
)
def test_inserted_parameters_are_not_pulled_to_their_random_start(pulling, inserting, tiny_state):
    """They have no pretrained values: they are pulled to zero, or not at all."""
    both = inserting + pulling
    names = {name for name, _ in tiny_state.model.named_parameters()}
    both.prepare(tiny_state)
    inserted = {n for n in tiny_state.trainable if n not in names}
    assert inserted
    assert inserted.isdisjoint(tiny_state.start)
    before = {n: tiny_state.model.get_parameter(n).detach().clone() for n in inserted}
    tiny_state.rates = dict.fromkeys(tiny_state.trainable, 0.5)
    with torch.no_grad():
        for name in inserted:
            tiny_state.model.get_parameter(name).add_(1.0)
    moved = {n: tiny_state.model.get_parameter(n).detach().clone() for n in inserted}
    assert both.loss(torch.tensor(0.0), None, {}, tiny_state) == 0.0
    both.after_step(tiny_state)
    if optimizer := both.optimizer(plain_groups(tiny_state), tiny_state):
        for parameter in tiny_state.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for name in inserted:
        weight = tiny_state.model.get_parameter(name)
        if isinstance(pulling, PriorDecay) and weight.ndim > 1:
            assert torch.equal(weight, moved[name] / 2), name
        else:  # RecAdam's weight decay is that of plain AdamW
            assert torch.allclose(weight, moved[name], rtol=0.02), name
        assert not torch.allclose(weight, before[name], atol=0.1), name


def test_inserted_parameters_are_penalised_towards_zero(tiny_state):
    both = LoRA() + L2SP(alpha=0.0, beta=0.5)
    both.prepare(tiny_state)
    learning = {n: tiny_state.model.get_parameter(n) for n in tiny_state.trainable}
    squares = sum(p.double().square().sum().item() for p in learning.values())
    loss = both.loss(torch.tensor(0.0), None, {}, tiny_state)
    assert loss.item() == pytest.approx(0.25 * squares)


@pytest.mark.parametrize(
    ("family", "kind", "pooler"),
    [
        ("bert", "classification", True),
        ("bert", "tagging", False),
        ("albert", "span", False),
        ("roberta", "classification", False),
    ],
)
def test_reinit_of_a_pooler_needs_one(family, kind, pooler):
    """Without one it would be the baseline under another name."""
    state = state_of(family, kind)
    assert any(".pooler." in name for name, _ in state.model.named_parameters()) == pooler
    assert (ReinitTop(layers=0).objection(state.depths, kind) is None) == pooler


def test_no_layer_is_frozen_at_random_values():
    depths = Depths(FAMILIES["bert"], 6)
    assert (FreezeLower(layers=3) + ReinitTop(layers=3)).objection(depths, "regression") is None
    overlapping = FreezeLower(layers=4) + ReinitTop(layers=3)
    assert overlapping.objection(depths, "regression") == (
        "FreezeLower(4) freezes layer 4 at the random values of ReinitTop(3)"
    )
    assert isinstance(ReinitTop(layers=1) + ChildTuningD(), Invalid)


def test_reinit_of_more_layers_than_there_are():
    depths = Depths(FAMILIES["bert"], 2)
    assert ReinitTop(layers=2).objection(depths, "classification") is None
    assert (
        ReinitTop(layers=3).objection(depths, "classification")
        == "layers=3 is more than its 2 layers"
    )


def test_reinit_depends_on_the_head_seed_alone(tiny_run):
    first = tiny_run(ReinitTop(layers=1), lr=1e-12, dropout=0.0)
    other = tiny_run(ReinitTop(layers=1), Seed(0, 3, 3), lr=1e-12, dropout=0.0)
    assert np.allclose(first.logits["dev"], other.logits["dev"], atol=1e-6)
    moved = tiny_run(ReinitTop(layers=1), Seed(1, 0, 0), lr=1e-12, dropout=0.0)
    assert not np.allclose(first.logits["dev"], moved.logits["dev"], atol=1e-6)


def test_standard_is_the_base_class():
    own = {name for name in vars(Standard) if not name.startswith(("_", "model_"))}
    assert own == set()
