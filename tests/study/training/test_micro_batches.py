"""Gradients accumulated over parts of a batch are those of the batch."""

import sys

import pytest
import torch

from study import Configuration, Recipe, Standard, SupervisedContrastive
from study.core.seeding import Seed
from study.core.spec import Invalid, SpecError
from study.models.loading import Loaded
from study.tasks.kinds.encoded import evaluation_batches
from study.tasks.metrics import METRICS
from study.techniques import L2SP, LNSR, R3F, SMART, FreeLB, HyPe, Technique
from study.techniques.passes import noise_like
from study.techniques.state import Phase, plain_groups
from study.training import fit
from study.training.fit import Setting
from study.training.savers import MemorySavers, misfit
from study.training.step import one_step, parts_of_batch
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE
from tests.heads import KINDS, batch_of, state_of
from tests.interrupting import bits, count_heartbeats, resumed, uninterrupted

FAMILY_OF = dict.fromkeys(sorted(KINDS), "bert") | {"image": "vit", "generation": "llama"}
GRADIENTS: dict[str, torch.Tensor] = {}


class Gradients(Technique):
    """Keeps the gradients of a step in `GRADIENTS`."""

    def after_backward(self, state):  # type: ignore[no-untyped-def]
        GRADIENTS.clear()
        named = state.model.named_parameters()
        GRADIENTS.update({n: p.grad.clone() for n, p in named if p.grad is not None})


def gradients(kind, size, *, technique, dropout=0.0, rows=5, equal=False):
    """Gradients, losses and the memory of a step on rows of different lengths."""
    state = state_of(FAMILY_OF[kind], kind, dropout=dropout)
    batch = batch_of(FAMILY_OF[kind], kind)
    order = [0] * rows if equal else [0, 1, 2, 3, 0]
    batch = {name: tensor[order[:rows]] for name, tensor in batch.items()}
    state.recipe = Recipe(micro_batch_size=size, clip_norm=None)
    technique = technique + Gradients()
    technique.prepare(state)
    phase = Phase(state.recipe, state.trainable)
    groups = [state.parameters(group) for group in plain_groups(state)]
    splits = []
    losses = one_step(
        technique, state, phase, torch.optim.AdamW(groups), batch, measure=splits.append
    )
    return dict(GRADIENTS), losses, splits[0]


@pytest.mark.parametrize("technique", [Standard(), L2SP(alpha=0.1, beta=0.1)])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("kind", FAMILY_OF)
def test_the_gradient_is_that_of_the_whole_batch(kind, size, technique):
    """Five rows in parts of one, two (and one) or four (and one); padded tokens have no label."""
    whole, losses, memory = gradients(kind, None, technique=technique)
    parts, own, smaller = gradients(kind, size, technique=technique)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    torch.testing.assert_close(own, losses, rtol=1e-5, atol=1e-6)
    assert smaller.activations < memory.activations
    assert smaller.gradients == pytest.approx(memory.gradients, rel=0.01)


def test_each_part_has_noise_of_its_own():
    """Equal rows, one a part: with the same masks their gradients would be those of one row."""
    options = {"technique": HyPe(epsilon=0.1), "dropout": 0.1}
    one, _, _ = gradients("classification", None, **options, equal=True, rows=1)
    four, _, _ = gradients("classification", 1, **options, equal=True, rows=4)
    assert not torch.allclose(four["classifier.weight"], one["classifier.weight"], rtol=1e-3)
    still = {"technique": Standard(), "dropout": 0.0}
    one, _, _ = gradients("classification", None, **still, equal=True, rows=1)
    four, _, _ = gradients("classification", 1, **still, equal=True, rows=4)
    assert torch.allclose(four["classifier.weight"], one["classifier.weight"], rtol=1e-4)


def test_a_part_without_labels_is_left_out():
    """Its mean loss is undefined: NaN, which would count as a diverged run."""
    state = state_of("bert", "tagging", dropout=0.0)
    batch = batch_of("bert", "tagging")
    batch["labels"][2] = -100
    parts = [part.number for part in parts_of_batch(batch, 1, state.kind)]
    assert parts == [0, 1, 3]
    assert sum(part.share for part in parts_of_batch(batch, 1, state.kind)) == pytest.approx(1.0)
    state.recipe = Recipe(micro_batch_size=1, clip_norm=None)
    phase = Phase(state.recipe, state.trainable)
    groups = [state.parameters(group) for group in plain_groups(state)]
    losses = one_step(Standard(), state, phase, torch.optim.AdamW(groups), batch)
    assert torch.stack(losses).isfinite().all()


@pytest.mark.parametrize("technique", [R3F, SMART, FreeLB, LNSR])
def test_the_noise_of_a_technique_differs_between_parts(technique, monkeypatch):
    drawn = []

    def keep(tensor, scale, noise, rng):  # type: ignore[no-untyped-def]
        found = noise_like(tensor, scale, noise, rng)
        drawn.append(found)
        return found

    module = sys.modules[technique.__module__]
    monkeypatch.setattr(module, "noise_like", keep)
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    state.recipe = Recipe(micro_batch_size=2, clip_norm=None)
    own = LNSR(layer=2) if technique is LNSR else technique()
    own.prepare(state)
    phase = Phase(state.recipe, state.trainable)
    groups = [state.parameters(group) for group in plain_groups(state)]
    state.rates = dict.fromkeys(state.trainable, 1e-3)
    one_step(own, state, phase, torch.optim.AdamW(groups), batch)
    first, second = drawn
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_evaluation_has_few_rows_where_training_has(data, model, monkeypatch):
    seen = []

    def counting(rows, size):  # type: ignore[no-untyped-def]
        seen.append(size)
        return evaluation_batches(rows, size)

    monkeypatch.setattr(fit, "evaluation_batches", counting)
    for size, expected in ((None, 16), (2, 8), (6, 16)):
        seen.clear()
        recipe = RECIPE.replace(micro_batch_size=size, epochs=1)
        setting = Setting(recipe, Standard(), Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
        train(setting, data, Loaded(model, PAIRS), CPU)
        assert set(seen) == {expected}


def test_a_run_in_parts_resumes_with_the_same_bits(data, model, tmp_path):
    recipe = RECIPE.replace(micro_batch_size=3, dropout=0.1)
    setting = Setting(recipe, HyPe(epsilon=0.1), Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    beats = count_heartbeats(setting, data, model, tmp_path / "count")
    outcome, trained, steps = resumed(setting, data, model, tmp_path, stops=[beats // 2])
    assert bits(outcome, trained) == bits(*uninterrupted(setting, data, model))
    assert steps < outcome.facts["steps"]


@pytest.mark.parametrize("size", [16, 20])
def test_a_part_is_smaller_than_the_batch(size):
    recipe = Recipe(micro_batch_size=size)
    assert isinstance(recipe, Invalid)
    assert f"{size} is not less than batch_size=16" in str(recipe.error)
    assert Recipe(batch_size=32, micro_batch_size=16).canonical() == {
        "batch_size": 32,
        "micro_batch_size": 16,
    }
    assert isinstance(Configuration(Standard(), recipe=recipe), Invalid)


def test_what_needs_the_whole_batch_is_refused():
    with pytest.raises(SpecError, match="all rows of a batch"):
        SupervisedContrastive().recipe(Recipe(micro_batch_size=4))
    recipe = Recipe(micro_batch_size=4, clip_norm=None)
    assert "micro_batch_size=None" in misfit(MemorySavers(False, True), Standard(), recipe)
