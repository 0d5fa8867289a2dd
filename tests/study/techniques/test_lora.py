"""LoRA's update worked by hand, in every family, and merged into a plain model."""

import pytest
import torch
from torch import nn

from study.core.seeding import Seed
from study.models.families import FAMILIES, Depths
from study.techniques import LoRA
from tests.families import ALL, DECODERS, logits_of, state_of

QUERY = "bert.encoder.layer.0.attention.self.query"
STILL = LoRA(rank=4, scale=0.5, dropout=0.0)


def fill_b(state):
    """Set every B to non-zero values, as training does."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * 10)


def test_the_update_by_hand(tiny_state):
    STILL.prepare(tiny_state)
    fill_b(tiny_state)
    a = tiny_state.model.get_parameter(f"{QUERY}.lora_A.default.weight")
    b = tiny_state.model.get_parameter(f"{QUERY}.lora_B.default.weight")
    w = tiny_state.model.get_parameter(f"{QUERY}.base_layer.weight")
    bias = tiny_state.model.get_parameter(f"{QUERY}.base_layer.bias")
    assert (a.shape, b.shape) == ((4, 16), (16, 4))
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    by_hand = x @ (w + 0.5 * b @ a).T + bias  # W + scale * B A
    assert torch.allclose(tiny_state.model.get_submodule(QUERY)(x), by_hand, atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("targets", ["query_value", "linear"])
def test_it_starts_at_the_pretrained_model_and_merges_back(kind, targets):
    state = state_of(kind)
    names = [name for name, _ in state.model.named_parameters()]
    plain = logits_of(state, kind)
    technique = STILL.replace(targets=targets)
    technique.prepare(state)
    assert torch.equal(logits_of(state, kind), plain)
    fill_b(state)
    woken = logits_of(state, kind)
    assert not torch.allclose(woken, plain, atol=1e-4)
    technique.merge(state.model)
    assert torch.allclose(logits_of(state, kind), woken, atol=1e-6)
    assert [name for name, _ in state.model.named_parameters()] == names


TARGETS = {"modernbert": ["Wqkv"], "distilbert": ["q_lin", "v_lin"]}
TARGETS |= {"deberta-v2": ["query_proj", "value_proj"], "mpnet": ["q", "v"]}
TARGETS |= dict.fromkeys([*DECODERS, "vit"], ["q_proj", "v_proj"])


@pytest.mark.parametrize("kind", ALL)
def test_targets_in_every_family(kind):
    """peft knows no targets for some families and guesses those of others."""
    state = state_of(kind)
    LoRA().prepare(state)
    wrapped = [n.partition(".lora_A.")[0] for n in state.trainable if ".lora_A." in n]
    wanted = TARGETS.get(kind, ["query", "value"])
    assert len(wrapped) == state.depths.layers * len(wanted)
    assert {name.rpartition(".")[2] for name in wrapped} == set(wanted)


@pytest.mark.parametrize("kind", ALL)
def test_the_head_trains_and_the_encoder_does_not(kind):
    """peft freezes the head."""
    state = state_of(kind)
    named = [n for n, _ in state.model.named_parameters()]
    head = [n for n in named if state.depths.of(n) == state.depths.head]
    LoRA().prepare(state)
    assert sorted(n for n in state.trainable if ".lora_" not in n) == sorted(head)


def test_a_comes_from_the_head_stream_alone():
    def drawn(seed):
        state = state_of("bert", seed)
        LoRA().prepare(state)
        return state.model.get_parameter(f"{QUERY}.lora_A.default.weight").detach()

    torch.manual_seed(1)
    first = drawn(Seed(0, 0, 0))
    torch.manual_seed(2)
    assert torch.equal(drawn(Seed(0, 7, 7)), first)
    assert not torch.equal(drawn(Seed(1, 0, 0)), first)
    assert 0.2 < first.abs().max() <= 0.25  # U(-1/sqrt(16), 1/sqrt(16))


def test_a_family_without_targets_says_what_to_add(tiny_state):
    tiny_state.depths = Depths(FAMILIES["bert"], 3)
    with pytest.raises(LookupError, match=r"not every layer has a module 'attention\.self\.query'"):
        LoRA().prepare(tiny_state)


def test_the_wider_targets_are_all_maps_of_the_layers():
    state = state_of("llama")
    maps = [n for n, m in state.model.named_modules() if isinstance(m, nn.Linear)]
    LoRA(targets="linear").prepare(state)
    wrapped = [n.partition(".lora_A.")[0] for n in state.trainable if ".lora_A." in n]
    assert sorted(wrapped) == sorted(n for n in maps if n != "score")
