"""Conversion of pickle and GGUF checkpoints to safetensors."""

import json
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from study.core import hub
from study.core.digest import file_sha256
from study.core.spec import Mistake, SpecError
from study.models.families import FAMILIES
from study.models.loading import Loaded
from study.models.model import FILES, Model
from study.tasks.kinds import Image, Regression

CONFIGURATION = FILES[1:]  # all but the weights: configuration and tokenizer
PICKLES = "pytorch_model*.bin"
RECORD = "converted.json"  # checksums, no paths: it is part of the folder's identity
INTERCHANGEABLE = ("bert", "electra")  # the same layers under different names
LEGACY_SUFFIXES = {"gamma": "weight", "beta": "bias"}  # of norms, in checkpoints of 2018 and 2019


def convert(checkpoint: str, folder: Path, model_type: str | None) -> list[str]:
    """Write a checkpoint as safetensors, without running code that a pickle may contain.

    Tensors from a pickle keep their dtype; GGUF is dequantised to float32.

    Args:
        checkpoint: A folder with `pytorch_model*.bin`, a `.gguf` file, or a hub id.
        folder: Output folder, new or empty: gets weights, configuration, tokenizer, and the
            source's SHA-256.
        model_type: `bert` or `electra`, to correct a configuration that names the wrong one of
            the two; None keeps it.

    Returns:
        Names of a task model's parameters that the checkpoint lacks, such as the head and
        possibly the pooler; every run initialises them.

    Raises:
        LookupError: If there is no such checkpoint, or its weights do not match its
            configuration.
        SpecError: If the folder is not empty, or the file holds anything but tensors.
    """
    if folder.exists() and any(folder.iterdir()):
        raise _error(str(folder), "is not empty; name a new folder.")
    path = Path(checkpoint)
    gguf = path.suffix == ".gguf"
    if gguf and not path.is_file() or checkpoint.startswith((".", "/", "~")) and not path.exists():
        raise LookupError(f"no such checkpoint: {checkpoint!r}")
    if not path.exists():
        path = hub.download(checkpoint, None, (*CONFIGURATION, PICKLES))
    sources = [path] if gguf else sorted(path.glob(PICKLES))
    if not sources:
        raise LookupError(f"{checkpoint!r} has no {PICKLES} to convert")

    folder.mkdir(parents=True, exist_ok=True)
    try:
        weights = _from_gguf(path, folder) if gguf else _from_pickles(sources)
        if not gguf:
            _copy_configuration(path, folder)
        if model_type:
            weights = _retyped(weights, folder / "config.json", model_type)
        safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        record: dict[str, Any] = {"sha256": {file.name: file_sha256(file) for file in sources}}
        record |= {"model_type": model_type} if model_type else {}
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        return _missing_parameters(folder)
    except BaseException:
        shutil.rmtree(folder)  # safe: it was empty before
        raise


def _missing_parameters(folder: Path) -> list[str]:
    """Load the converted checkpoint as a task model.

    Returns:
        The parameters that the checkpoint lacks.

    Raises:
        LookupError: If weights below the task head are missing.
    """
    values = json.loads((folder / "config.json").read_text())
    kind = Image(()) if values.get("model_type") == "vit" else Regression(())
    model = Model(name="converted", checkpoint=str(folder))
    try:
        return Loaded(model, kind).new
    except LookupError as error:
        if values.get("model_type") in INTERCHANGEABLE:
            other = next(name for name in INTERCHANGEABLE if name != values["model_type"])
            text = f"{error.args[0]}; if it is {other}, add --model-type {other}"
            raise LookupError(text) from error
        raise


def _copy_configuration(source: Path, folder: Path) -> None:
    """Copy configuration and tokenizer."""
    for pattern in CONFIGURATION:
        for file in sorted(source.glob(pattern)):
            if not file.name.endswith(".index.json"):  # lists the shards of the pickle
                shutil.copyfile(file, folder / file.name)


def _from_pickles(files: list[Path]) -> dict[str, Tensor]:
    """The tensors of all files under their current names, without shared memory."""
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            text = f"is damaged or holds more than tensors, so it was not loaded ({reason})"
            raise _error(file.name, text) from error
        if not isinstance(loaded, dict):
            text = f"holds a {type(loaded).__name__}, not a dict of tensors by name."
            raise _error(file.name, text)
        for name, tensor in loaded.items():
            if not isinstance(tensor, Tensor):
                text = f"is a {type(tensor).__name__}, not a tensor."
                raise _error(f"{file.name}, {name}", text)
            owner, dot, suffix = name.rpartition(".")
            # Tied tensors are written under each of their names: safetensors does not store shared
            # memory, and which name a task model needs depends on the model.
            weights[owner + dot + LEGACY_SUFFIXES.get(suffix, suffix)] = tensor.clone().contiguous()
    return weights


def _from_gguf(file: Path, folder: Path) -> dict[str, Tensor]:
    """The dequantised tensors; also writes configuration and tokenizer from the file."""
    import transformers  # takes seconds

    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
    except ImportError as error:
        text = "reading GGUF needs extra packages: pip install 'finetuning-stability[gguf]'"
        raise LookupError(text) from error
    except (ValueError, struct.error) as error:
        raise LookupError(f"{str(file)!r} cannot be read as GGUF ({error})") from error
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    del model.config.quantization_config  # the written weights are not quantised
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tied = model.config.tie_word_embeddings
    state = model.state_dict()
    return {
        name: tensor.clone().contiguous()
        for name, tensor in state.items()
        if not (tied and name == "lm_head.weight")
    }


def _retyped(weights: dict[str, Tensor], config: Path, model_type: str) -> dict[str, Tensor]:
    """Set the configuration's `model_type`, and rename the body to match.

    Source: the hub tags both PubMedELECTRA checkpoints (Tinn et al. 2023) `bert`.
    """
    values = json.loads(config.read_text())
    values["model_type"] = model_type
    values.pop("architectures", None)
    bodies = {FAMILIES[kind].body for kind in INTERCHANGEABLE}
    renamed = {}
    for name, tensor in weights.items():
        body, _, inside = name.partition(".")
        renamed[f"{FAMILIES[model_type].body}.{inside}" if body in bodies else name] = tensor
    for name, tensor in renamed.items():
        if name.endswith("embeddings.word_embeddings.weight"):
            # BERT's configuration does not have it, and ELECTRA's default is 128.
            values.setdefault("embedding_size", tensor.shape[1])
    config.write_text(json.dumps(values, indent=2) + "\n")
    return renamed


def _error(path: str, text: str) -> SpecError:
    return SpecError("checkpoint", [Mistake(path, text)])
