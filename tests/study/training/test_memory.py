"""The meter of memory, against the closed forms of an encoder's saved activations."""

import pytest
import torch
from torch import nn

from study.models.families import depths_of
from study.models.gradient_checkpointing import checkpointed_layers
from study.training.memory import SavedActivations, bytes_of
from tests.families import bert_batch, wide_bert

# Layers, rows, tokens, width and heads; bytes saved with all weights trained, and with none but
# biases. From an independent implementation, which the closed forms meet to the byte
# (dropout 0.1 with boolean masks, eager attention, BERT with pooler and two classes).
PUBLISHED = [((2, 3, 32, 96, 4), 1_527_100, 972_988), ((3, 2, 50, 128, 8), 3_737_524, 2_610_100)]


class BooleanMask(torch.autograd.Function):
    """Dropout that saves its mask as booleans, as on GPUs; on CPUs torch saves it as float32."""

    @staticmethod
    def forward(ctx, tensor, p):
        mask = torch.rand(tensor.shape, device=tensor.device) >= p
        ctx.save_for_backward(mask)
        ctx.p = p
        return tensor * mask / (1 - p)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0] / (1 - ctx.p), None


def closed_form(layers, rows, tokens, width, heads, *, mask, frozen=False):
    """Bytes saved by eager BERT with a pooler and two classes; `mask` is bytes per mask entry."""
    n, per_token = rows * tokens, (64 + 2 * mask - 28 * frozen) * width
    block = per_token + (8 + mask) * heads * tokens + 16
    outside = (8 + mask - 4 * frozen) * width + 8
    return n * (layers * block + outside) + rows * ((8 + mask - 4 * frozen) * width + 8) + 4


def measured(layers, rows, tokens, width, heads, *, device="cpu", frozen=False):
    model = wide_bert(layers, width, heads, device, attention="eager")
    batch = bert_batch(rows, tokens, device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen or name.endswith("bias"))
    meter = SavedActivations(model, batch)
    with meter.counting():
        model(**batch).loss.backward()
    return meter


@pytest.fixture
def boolean_dropout(monkeypatch):
    """Modules and attention call this function."""
    own = nn.functional.dropout
    monkeypatch.setattr(
        nn.functional,
        "dropout",
        lambda x, p=0.5, training=True, inplace=False: (
            BooleanMask.apply(x, p) if training and p else own(x, p, training, inplace)
        ),
    )


@pytest.mark.parametrize(("sizes", "trained", "frozen"), PUBLISHED)
def test_published_bytes_to_the_byte(boolean_dropout, sizes, trained, frozen):
    assert measured(*sizes).peak == trained == closed_form(*sizes, mask=1)
    assert measured(*sizes, frozen=True).peak == frozen


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("sizes", [sizes for sizes, *_ in PUBLISHED])
def test_masks_are_float32_on_a_cpu_and_bytes_need_no_values(sizes, device):
    found = measured(*sizes, device=device)
    assert found.peak == closed_form(*sizes, mask=4)


def test_what_is_freed_is_no_longer_held():
    """Two passes one after the other hold as much as the larger, not as both."""
    meter = SavedActivations(nn.Module(), {})
    leaf = torch.ones(100, requires_grad=True)
    with meter.counting():
        (leaf * 2).exp().sum().backward()
        one = meter.peak
        (leaf * 2).exp().sum().backward()
        assert meter.peak == one == 400
        first, second = (leaf * 2).exp().sum(), (leaf * 3).exp().sum()
        assert meter.peak == 800
        (first + second).backward()
    assert meter._held == 0


def test_a_pass_that_no_backward_pass_follows_leaves_nothing():
    """Softmax saves its own output, which must not keep the pass alive."""
    meter = SavedActivations(nn.Module(), {})
    leaf = torch.ones(100, requires_grad=True)
    with meter.counting():
        output = leaf.softmax(0)
    assert meter._held == 400
    del output
    assert meter._held == 0


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_checkpointing_holds_the_inputs_of_all_layers_and_one_layer(layers, device):
    rows, tokens, width, heads = 2, 8, 16, 4
    model = wide_bert(layers, width, heads, device, attention="eager")
    batch = bert_batch(rows, tokens, device)
    meter = SavedActivations(model, batch)
    with meter.counting(), checkpointed_layers(model, depths_of(model), ()):
        model(**batch).loss.backward()
    n, one = rows * tokens, closed_form(1, rows, tokens, width, heads, mask=4)
    # Until the layer's turn comes, the backward pass has freed what follows the layers.
    after = n * 4 * width + rows * (12 * width + 8) + 4
    assert meter.peak == one - after + (layers - 1) * n * 4 * width
    assert meter._held == 0


def test_a_storage_counts_once():
    whole = torch.ones(10, 10)
    assert bytes_of([whole[0], whole[1], None, whole]) == 400
    meter = SavedActivations(nn.Module(), {})
    leaf = torch.ones(10, requires_grad=True)
    with meter.counting():
        total = (leaf * whole[0] + leaf * whole[1]).sum()
    assert meter.peak == 400
    del total
