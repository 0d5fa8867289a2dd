import pytest
import torch
from torch.nn import functional

from study.core.recipe import Recipe
from study.core.spec import SpecError
from study.techniques import HyPe, LoRA, Mixout, ProbeThenTune, RDrop
from tests.heads import batch_of, state_of


def two_passes(state, batch):
    state.reseed()
    return state.forward(batch), state.forward(batch)


def test_formula_against_torch():
    state, batch = state_of("bert"), batch_of("bert")
    first, second = two_passes(state, batch)
    log_p, log_q = (o.logits.double().log_softmax(-1) for o in (first, second))
    there = functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    back = functional.kl_div(log_p, log_q, log_target=True, reduction="batchmean")
    expected = (first.loss + second.loss) / 2 + 3.0 * (there + back) / 2
    state.reseed()
    outputs = state.forward(batch)
    loss = RDrop(alpha=3.0).loss(outputs.loss, outputs, batch, state)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_penalties_of_other_techniques_are_kept():
    state, batch = state_of("bert"), batch_of("bert")
    first, second = two_passes(state, batch)
    state.reseed()
    outputs = state.forward(batch)
    loss = RDrop(alpha=0.0).loss(outputs.loss + 10.0, outputs, batch, state)
    assert loss.item() == pytest.approx((first.loss + second.loss).item() / 2 + 10.0)


def test_regression_uses_the_squared_difference():
    state, batch = state_of("bert", "regression"), batch_of("bert", "regression")
    first, second = two_passes(state, batch)
    squared = functional.mse_loss(first.logits, second.logits)
    state.reseed()
    outputs = state.forward(batch)
    loss = RDrop(alpha=1e6).loss(outputs.loss, outputs, batch, state)
    mean = (first.loss + second.loss) / 2
    assert (loss - mean).item() == pytest.approx(1e6 * squared.item(), rel=1e-4)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_equal_passes_are_refused(family):
    """Llama's own configuration has no dropout: R-Drop would have no effect at twice the cost."""
    state, batch = state_of(family, dropout=0.0), batch_of(family)
    outputs = state.forward(batch)
    with pytest.raises(ValueError, match="RDrop needs dropout"):
        RDrop().loss(outputs.loss, outputs, batch, state)


def test_a_recipe_without_dropout_is_refused_before_anything_runs():
    with pytest.raises(SpecError, match="RDrop needs dropout"):
        RDrop().recipe(Recipe(dropout=0.0))
    with pytest.raises(SpecError, match="RDrop needs dropout"):
        (RDrop() + ProbeThenTune()).recipe(Recipe(dropout=0.0))


@pytest.mark.parametrize("other", [Mixout(p=0.5), LoRA(), HyPe(epsilon=0.1)])
def test_a_technique_that_acts_as_dropout_suffices(other, tiny_run):
    assert tiny_run(other + RDrop(), dropout=0.0).outcome == "completed"


def test_passes_may_be_equal_while_the_head_is_probed(tiny_run):
    """The body's dropout is off then, and mixout has turned off the head's."""
    both = ProbeThenTune(epochs=1) + RDrop()
    assert tiny_run(both + Mixout(p=0.5)).outcome == "completed"


def test_equal_passes_are_refused_after_probing(tiny_run):
    with pytest.raises(ValueError, match="RDrop needs dropout"):
        tiny_run(ProbeThenTune(epochs=1) + RDrop() + Mixout(p=0.0))


def test_gradient_is_the_mean_of_both_passes():
    state, batch = state_of("bert"), batch_of("bert")
    weight = state.model.get_parameter("classifier.weight")
    separate = [torch.autograd.grad(o.loss, weight)[0] for o in two_passes(state, batch)]
    state.reseed()
    outputs = state.forward(batch)
    loss = RDrop(alpha=0.0).loss(outputs.loss, outputs, batch, state)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert torch.allclose(gradient, sum(separate) / 2, atol=1e-7)
