"""Extra forward passes, and the techniques that use them, on every family."""

import math
from types import SimpleNamespace

import pytest
import torch

from study.tasks.kinds import Regression
from study.techniques.passes import (
    extra_forward,
    input_embeddings,
    symmetric_divergence,
    token_mask,
)
from tests.examples import EXAMPLES
from tests.families import ALL
from tests.heads import batch_of, state_of

MINE = ["RDrop", "R3F", "SMART", "FreeLB", "SupervisedContrastive", "LNSR", "HyPe"]


@pytest.mark.parametrize("family", ALL)
def test_a_pass_with_shared_masks_repeats_the_first_bit_for_bit(family):
    state, batch = state_of(family), batch_of(family)
    first = state.forward(batch)
    torch.rand(1)  # the generator is somewhere else now, and stays there
    before = torch.get_rng_state()
    nowhere = torch.zeros_like(input_embeddings(batch, state))
    again = extra_forward(batch, state, masks="shared", shift=nowhere)
    assert torch.equal(first.logits, again.logits)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first.logits, extra_forward(batch, state, masks="fresh").logits)


@pytest.mark.parametrize("family", ALL)
def test_a_shift_changes_the_outputs_and_gets_a_gradient(family):
    state, batch = state_of(family), batch_of(family)
    shift = torch.full_like(input_embeddings(batch, state), 0.1)
    shift[..., 0] = -0.1  # a constant over all units is taken out by the first norm
    first = state.forward(batch)
    moved = extra_forward(batch, state, masks="shared", shift=shift.requires_grad_())
    assert not torch.allclose(first.logits, moved.logits, atol=1e-6)
    (gradient,) = torch.autograd.grad(moved.loss, shift)
    real = token_mask(batch, shift)
    assert gradient.abs().sum() > 0
    assert (gradient * (1 - real)).abs().sum() == 0  # padding leads nowhere


def test_the_hook_is_removed_even_after_an_error():
    state, batch = state_of("bert"), batch_of("bert")
    state.model.eval()
    plain = state.forward(batch).logits
    with pytest.raises(RuntimeError):
        extra_forward(batch, state, masks="fresh", shift=torch.zeros(3, 3, 3))
    assert torch.equal(state.forward(batch).logits, plain)


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_a_small_shift_survives_bfloat16(family):
    """1e-5 added in bfloat16 would be rounded away; patches come out of a bfloat16 convolution."""
    state, batch = state_of(family, dropout=0.0), batch_of(family)
    state.recipe = state.recipe.replace(precision="bfloat16")
    embeddings = []
    state.model.get_submodule(f"{state.depths.family.body}.embeddings").register_forward_hook(
        lambda module, inputs, output: embeddings.append(output)
    )
    alternating = torch.ones_like(input_embeddings(batch, state)).cumsum(-1) % 2 * 2e-5 - 1e-5
    for shift in (torch.zeros_like(alternating), alternating):
        extra_forward(batch, state, masks="fresh", shift=shift)
    assert (embeddings[0] != embeddings[1])[
        :, 1:
    ].float().mean() > 0.9  # an image's first token is no patch


def test_other_weights_replace_the_models_own_in_one_pass():
    state, batch = state_of("bert", dropout=0.0), batch_of("bert")
    plain = state.forward(batch).logits
    bias = state.model.get_parameter("classifier.bias")
    moved = extra_forward(batch, state, masks="fresh", weights={"classifier.bias": bias + 1.0})
    assert torch.allclose(moved.logits, plain + 1.0)
    assert torch.equal(state.forward(batch).logits, plain)


def logits(*probabilities):
    return SimpleNamespace(logits=torch.tensor(probabilities).log())


def test_divergence_by_hand(tiny_state):
    """(0.75 - 0.5) (ln 1.5 - ln 0.5) = ln(3) / 4; the mean over rows, not their sum."""
    p, q = logits([0.75, 0.25]), logits([0.5, 0.5])
    assert symmetric_divergence(p, q, {}, tiny_state).item() == pytest.approx(math.log(3) / 4)
    twice = logits([0.75, 0.25], [0.75, 0.25]), logits([0.5, 0.5], [0.5, 0.5])
    assert symmetric_divergence(*twice, {}, tiny_state).item() == pytest.approx(math.log(3) / 4)


def test_divergence_in_regression_is_the_squared_difference_both_ways(tiny_state):
    tiny_state.kind = Regression(())
    p, q = (SimpleNamespace(logits=torch.tensor([[a], [b]])) for a, b in ((1.0, 2.0), (1.0, 5.0)))
    assert symmetric_divergence(p, q, {}, tiny_state).item() == 2 * (0 + 9) / 2


def step_once(technique, state, batch):
    """One step without an optimizer: the loss before and after, and whether gradients flow."""
    technique.prepare(state)
    technique.before_step(state)
    outputs = state.forward(batch)
    loss = technique.loss(outputs.loss, outputs, batch, state)
    assert all(p.grad is None for p in state.model.parameters())  # only the loop's backward may
    loss.backward()
    gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert sum(g.abs().sum() for g in gradients) > 0
    state.step += 1
    technique.after_step(state)
    return loss.item() != outputs.loss.item()


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("name", MINE)
def test_every_family_learns_with_it_or_is_refused(name, family):
    state = state_of(family)
    if EXAMPLES[name].objection(state.depths, state.kind.name):
        assert (name, family) == ("LNSR", "albert")
    else:
        assert step_once(EXAMPLES[name], state, batch_of(family)) == (name != "HyPe")


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "llama"])
@pytest.mark.parametrize("kind", ["regression", "multilabel", "tagging", "span"])
@pytest.mark.parametrize("name", MINE)
def test_every_kind_of_task_learns_with_it_or_is_refused(name, kind, family):
    state = state_of(family, kind)
    if EXAMPLES[name].objection(state.depths, kind):
        assert name == "SupervisedContrastive"
    else:
        assert step_once(EXAMPLES[name], state, batch_of(family, kind)) == (name != "HyPe")


@pytest.mark.gpu
@pytest.mark.parametrize("name", MINE)
def test_on_a_gpu(name):
    state = state_of("bert", device=torch.device("cuda"))
    batch = {key: value.cuda() for key, value in batch_of("bert").items()}
    first = state.forward(batch)
    assert torch.equal(first.logits, extra_forward(batch, state, masks="shared").logits)
    assert step_once(EXAMPLES[name], state, batch) == (name != "HyPe")


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("name", MINE)
def test_evaluation_is_that_of_the_plain_model(name, family):
    state, batch = state_of(family), batch_of(family)
    state.model.eval()
    plain = state.forward(batch).logits
    if EXAMPLES[name].objection(state.depths, state.kind.name) is None:
        EXAMPLES[name].prepare(state)
        EXAMPLES[name].before_step(state)
    assert torch.equal(state.forward(batch).logits, plain)
