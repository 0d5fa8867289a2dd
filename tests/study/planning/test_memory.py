"""Predicted memory of a training step, against the meter of real steps and closed forms."""

import pytest
import torch

from study import Model, Recipe
from study.core.seeding import Seed
from study.models.loading import Loaded
from study.planning.memory import predicted_split
from study.tasks.kinds import KINDS
from study.training.memory import SavedActivations, bytes_of
from tests.families import ALL, family_model

ROWS, TOKENS = 4, 12


def measured(model: Model, kind: str, dropout: float):
    """Weights and saved activations of a real forward pass on this CPU."""
    network = Loaded(model, KINDS[kind](("no", "yes"))).fresh(Seed(0, 0, 0), dropout).train()
    if kind == "image":
        batch = {"pixel_values": torch.rand(ROWS, 3, 8, 8)}
    else:
        batch = {"input_ids": torch.full((ROWS, TOKENS), 7)}
    meter = SavedActivations(network, batch)
    with meter.counting():
        outputs = network(**batch)
    del outputs
    return bytes_of([*network.parameters(), *network.buffers()]), meter.peak


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("family", ALL)
def test_a_prediction_is_what_a_real_pass_saves(family, dropout, tmp_path):
    model, kind = family_model(family, tmp_path), "image" if family == "vit" else "classification"
    recipe = Recipe(batch_size=ROWS, dropout=dropout)
    split = predicted_split(model, kind, recipe, length=TOKENS, gpu=False)
    if family == "deberta-v2":
        assert split is None  # it computes with values
        return
    weights, activations = measured(model, kind, dropout)
    assert split.weights == weights
    assert split.optimizer == 2 * split.gradients
    # Position and segment ids, which are inputs there and made on the way here, are what differs.
    assert split.activations == pytest.approx(activations, rel=0.02)


def test_on_a_gpu_masks_are_smaller_and_attention_is_fused(tmp_path):
    """66 H + 4 A + 16 bytes per token and layer; H = 16, A = 2, feed-forward blocks 2 H wide."""
    model, kind = family_model("bert", tmp_path), "classification"
    recipe = Recipe(batch_size=ROWS, dropout=0.1)
    tokens = 32
    cpu, gpu = (
        predicted_split(model, kind, recipe, length=tokens, gpu=on).activations
        for on in (False, True)
    )
    # The input of the feed-forward activation and that of the second layer are 4 x 2 H instead of
    # 4 x 4 H bytes each.
    layer = 66 * 16 - 2 * 8 * 16 + 4 * 2 + 16
    outside = ROWS * tokens * (9 * 16 + 8) + ROWS * 9 * 16
    assert gpu == pytest.approx(2 * ROWS * tokens * layer + outside, rel=0.01)
    assert cpu > gpu
    assert (
        predicted_split(model, kind, recipe.replace(precision="bfloat16"), length=8, gpu=True)
        is None
    )
