"""One step of every technique on a model of each kind: it trains, deterministically."""

import pytest
import torch

from study.techniques import TECHNIQUES, Technique
from study.techniques.state import Phase, plain_groups
from study.training.step import one_step
from tests.examples import EXAMPLES
from tests.heads import batch_of, state_of

CASES = [
    ("llama", "classification", "float32"),
    ("vit", "image", "float32"),
    ("bert", "span", "float32"),
    ("deberta-v2", "tagging", "float32"),
    ("modernbert", "multilabel", "float32"),
    ("albert", "regression", "float32"),
    ("bert", "classification", "bfloat16"),
]
REFUSED = {
    ("albert", "regression"): {
        *("BAdam", "FreezeLower", "LISA", "LNSR", "ReinitTop", "SupervisedContrastive"),
    },
    ("bert", "span"): {"SupervisedContrastive"},
    ("deberta-v2", "tagging"): {"SupervisedContrastive"},
    # They have neither biases nor LayerNorm with GELU.
    ("llama", "classification"): {"BitFit", "CompressedActivations"},
    ("modernbert", "multilabel"): {"BitFit", "CompressedActivations", "SupervisedContrastive"},
}


def stepped(technique: Technique, family: str, kind: str, precision: str, measure=None):
    """The weights before and after a step."""
    state, batch = state_of(family, kind), batch_of(family, kind)
    state.batches = lambda: iter([batch])
    state.recipe = technique.recipe(
        state.recipe.replace(lr=1e-3, warmup=0.0, epochs=4, precision=precision)
    )
    technique.weights(state)
    technique.prepare(state)
    before = {n: p.detach().clone() for n, p in state.model.named_parameters()}
    phase = technique.phases([Phase(state.recipe, state.trainable)], state)[0]
    state.recipe = phase.recipe
    groups = technique.groups(plain_groups(state), state)
    state.rates = {name: group.lr for group in groups for name in group.names}
    optimizer = technique.optimizer(groups, state) or torch.optim.AdamW(
        [state.parameters(group) for group in groups]
    )
    state.model.train()
    loss, _ = one_step(technique, state, phase, optimizer, batch, measure)
    assert loss.isfinite()
    return before, {n: p.detach().clone() for n, p in state.model.named_parameters()}


@pytest.mark.parametrize(("family", "kind", "precision"), CASES)
@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_step_trains_and_is_deterministic(name, family, kind, precision):
    technique = EXAMPLES[name]
    refused = technique.objection(state_of(family, kind).depths, kind) is not None
    assert refused == (name in REFUSED.get((family, kind), ()))
    if refused:
        return
    before, after = stepped(technique, family, kind, precision)
    moved = [not torch.equal(before[n], p) for n, p in after.items()]
    assert any(moved)
    assert all(p.isfinite().all() for p in after.values())
    splits = []
    again = stepped(technique, family, kind, precision, splits.append)[1]  # it moves no bit
    assert min(splits[0]) > 0
    assert all(torch.equal(again[n], p) for n, p in after.items())
