"""What became of pretrained weights that no phase trains: their digest, and whether they moved."""

import hashlib

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.loading import Loaded
from study.tasks.kinds import Generation
from study.tasks.metrics import METRICS
from study.techniques import PEFT, Adapters, BitFit, LoRA, NoisyTune, Standard
from study.training.fit import Setting
from study.training.prepare import prepare
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE
from tests.generating import answering_task, decoder

KIND, SEED = Generation(()), Seed(0, 0, 0)


def sha256_of(loaded):
    """Of the checkpoint's weights, by hand."""
    hashed = hashlib.sha256()
    for name, weight in sorted(loaded.pretrained.items()):
        if "pooler" not in name:  # a part of BERT's head
            hashed.update(name.encode() + weight.numpy().tobytes())
    return hashed.hexdigest()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("technique", [LoRA(rank=2), PEFT(method="ia3")], ids=str)
def test_a_frozen_decoder_is_the_checkpoint(technique, tied, tmp_path):
    loaded = Loaded(decoder(tmp_path / "model", tied=tied), KIND)
    data = prepare(answering_task(tmp_path / "rows").load(), loaded.processor, 32).splits
    setting = Setting(Recipe(lr=1e-2, epochs=2), technique, SEED, METRICS["perplexity"], KIND)
    outcome, model = train(setting, data, loaded, CPU)
    assert outcome.base == (sha256_of(loaded), True)
    assert outcome.facts["base_unchanged"] == 1.0

    # Without what was inserted its logits are those of the untouched model, bit for bit.
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        trained = model(input_ids=ids).logits
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(False)
        untouched = loaded.fresh(SEED, None).eval()(input_ids=ids).logits
        assert not torch.equal(trained, untouched)
        assert torch.equal(model(input_ids=ids).logits, untouched)


def test_a_new_head_is_no_part_of_the_base(data, loaded):
    def base_of(technique):
        setting = Setting(RECIPE, technique, SEED, METRICS["accuracy"], PAIRS)
        return train(setting, data, loaded, CPU)[0].base

    assert "classifier.weight" not in loaded.pretrained
    assert base_of(LoRA()) == (sha256_of(loaded), True)
    for technique in (Standard(), BitFit(), Adapters()):  # adapters train the norms of the base
        assert base_of(technique) is None
    moved = base_of(LoRA() + NoisyTune(intensity=0.1))  # changed before training, then frozen
    assert moved is not None
    assert not moved.unchanged
    assert moved.sha256 != sha256_of(loaded)
