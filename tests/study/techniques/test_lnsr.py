import numpy as np
import pytest
import torch
from transformers.models.bert.modeling_bert import BertLayer

from study.models.families import FAMILIES, Depths
from study.techniques import LNSR
from tests.heads import batch_of, state_of


def test_weight_zero_changes_nothing(tiny_run):
    plain, zero = tiny_run(), tiny_run(LNSR(weight=0.0))
    assert zero.curves == plain.curves
    assert np.array_equal(zero.logits["test"], plain.logits["test"])


def penalty(technique, state, batch):
    technique.prepare(state)
    state.reseed()
    outputs = state.forward(batch)
    return (technique.loss(outputs.loss, outputs, batch, state) - outputs.loss).item()


class IdentityLayer(BertLayer):
    """A layer that returns its input."""

    def forward(self, hidden, *others, **named):
        return hidden


@pytest.mark.parametrize(("layer", "above"), [(1, 3), (2, 2), (3, 1)])
def test_identity_layers_by_hand(layer, above):
    """Noise e arrives unchanged at each layer from its own upwards: above * mean |e|^2."""
    state, batch = state_of("bert"), batch_of("bert")
    for index in range(3):
        state.model.bert.encoder.layer[index] = IdentityLayer(state.model.config)
    rng = state.device_rng("noise", "LNSR", 0)
    noise = torch.empty(4, 7, 16).normal_(0.0, 0.5, generator=rng)
    real = batch["attention_mask"].bool()
    expected = 2.0 * above * noise.square().sum(-1)[real].mean().item()
    computed = penalty(LNSR(weight=2.0, layer=layer, sigma=0.5), state, batch)
    assert computed == pytest.approx(expected, rel=1e-5)


def test_it_grows_with_the_square_of_the_noise_whatever_the_dropout():
    """With other dropout masks the passes would differ however small the noise."""
    state, batch = state_of("bert"), batch_of("bert")
    small, double = (penalty(LNSR(sigma=sigma), state, batch) for sigma in (0.004, 0.008))
    assert double / small == pytest.approx(4.0, rel=0.05)


def test_the_layer_must_exist():
    assert LNSR(layer=2).objection(Depths(FAMILIES["bert"], 2), "regression") is None
    above = LNSR(layer=3).objection(Depths(FAMILIES["bert"], 2), "regression")
    assert above == "layer=3 is above its 2 layers"
    assert LNSR().objection(Depths(FAMILIES["albert"], 1), "regression") is not None
