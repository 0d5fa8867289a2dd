"""Conversion of pickles to safetensors, without running their code."""

import hashlib
import json
import shutil

import pytest
import torch
import transformers

from study.cli.parser import run_command
from study.core.seeding import Seed
from study.core.spec import SpecError
from study.models.convert import convert
from study.models.loading import Loaded
from study.models.model import Model
from tests.conftest import PAIRS


@pytest.fixture
def source(tmp_path, model: Model):
    """A folder with configuration and tokenizer, and no weights yet."""
    folder = tmp_path / "source"
    shutil.copytree(model.checkpoint, folder)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def weights(model: Model) -> dict[str, torch.Tensor]:
    """The tensors of a masked language model as saved in 2018, with a tied decoder."""
    body = transformers.BertModel.from_pretrained(model.checkpoint).state_dict()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    named = {}
    for name, tensor in body.items():
        for new, before in old.items():
            name = name.replace(new, before)
        named[f"bert.{name}"] = tensor
    named["cls.predictions.decoder.weight"] = named["bert.embeddings.word_embeddings.weight"]
    return named


def test_a_converted_pickle_has_the_same_values(source, weights, tmp_path, model: Model):
    torch.save(weights, source / "pytorch_model.bin")
    new = convert(str(source), tmp_path / "out", None)
    assert new == ["classifier.bias", "classifier.weight"]
    converted = Loaded(Model(name="m", checkpoint=str(tmp_path / "out")), PAIRS)
    left = converted.fresh(Seed(0, 0, 0), None).state_dict()
    right = Loaded(model, PAIRS).fresh(Seed(0, 0, 0), None).state_dict()
    assert all(torch.equal(left[name], tensor) for name, tensor in right.items())
    checksum = hashlib.sha256((source / "pytorch_model.bin").read_bytes()).hexdigest()
    record = json.loads((tmp_path / "out" / "converted.json").read_text())
    assert record == {"sha256": {"pytorch_model.bin": checksum}}


def test_a_sharded_pickle_is_merged(source, weights, tmp_path):
    names = sorted(weights)
    for part, chosen in enumerate((names[:9], names[9:]), start=1):
        shard = {name: weights[name] for name in chosen}
        torch.save(shard, source / f"pytorch_model-0000{part}-of-00002.bin")
    (source / "pytorch_model.bin.index.json").write_text("{}")
    assert convert(str(source), tmp_path / "out", None) == ["classifier.bias", "classifier.weight"]
    assert not list((tmp_path / "out").glob("*.index.json"))


@pytest.mark.parametrize("prefix", ["bert", "electra"])
def test_a_wrong_model_type_is_corrected(prefix, source, weights, tmp_path):
    """Both PubMedELECTRA checkpoints are tagged `bert` on the hub."""
    electra = {name.replace("bert.", f"{prefix}.", 1): t for name, t in weights.items()}
    torch.save(electra, source / "pytorch_model.bin")
    new = convert(str(source), tmp_path / "out", "electra")
    assert [name.partition(".")[0] for name in new] == ["classifier"] * 4  # dense and out_proj
    model = Loaded(Model(name="m", checkpoint=str(tmp_path / "out")), PAIRS).fresh(
        Seed(0, 0, 0), None
    )
    assert type(model).__name__ == "ElectraForSequenceClassification"
    name = "encoder.layer.1.output.LayerNorm"
    assert torch.equal(model.get_parameter(f"electra.{name}.weight"), weights[f"bert.{name}.gamma"])


def test_weights_that_do_not_match_the_configuration_are_refused(source, weights, tmp_path):
    electra = {name.replace("bert.", "electra.", 1): t for name, t in weights.items()}
    torch.save(electra, source / "pytorch_model.bin")
    with pytest.raises(LookupError, match="has no weights for bert.embed.*--model-type electra"):
        convert(str(source), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


class Code:
    """Unpickling it runs a command."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


def test_code_in_a_pickle_is_not_run(source, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**weights, "bert.extra": Code()}, source / "pytorch_model.bin")
    with pytest.raises(SpecError, match="holds more than tensors, so it was not loaded"):
        convert(str(source), tmp_path / "out", None)
    assert not (tmp_path / "ran").exists()


def test_an_entry_that_is_not_a_tensor_is_named(source, weights, tmp_path):
    torch.save({**weights, "epoch": 3}, source / "pytorch_model.bin")
    with pytest.raises(SpecError, match="pytorch_model.bin, epoch is a int, not a tensor"):
        convert(str(source), tmp_path / "out", None)


def test_the_command_named_in_the_error_message_works(source, weights, tmp_path, capsys):
    torch.save(weights, source / "pytorch_model.bin")
    with pytest.raises(SpecError) as refused:
        Model(name="m", checkpoint=str(source)).folder()
    words = str(refused.value).partition("study convert ")[2].split()
    assert words == [str(source), "--out", "FOLDER"]  # nothing follows the command
    out = tmp_path / "out"
    assert run_command(["convert", words[0], "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert "not in the checkpoint, so initialised in every run: classifier.bias" in output
    assert f"Model(name=..., checkpoint={str(out)!r})" in output
    assert Model(name="m", checkpoint=str(out)).folder() == out
    assert run_command(["convert", words[0], "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_damaged_gguf_is_refused(tmp_path):
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    with pytest.raises(LookupError, match="cannot be read as GGUF"):
        convert(str(tmp_path / "some.gguf"), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
