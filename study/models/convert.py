"""A checkpoint that exists only as a pickle or as GGUF, turned once into safetensors."""

import hashlib
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
from study.core.spec import Mistake, SpecError
from study.models.families import FAMILIES
from study.models.loading import Loaded
from study.models.model import DECIDING, Model
from study.tasks.kinds import Image, Regression

PICKLES = "pytorch_model*.bin"
RECORD = "converted.json"  # checksums, no paths: it is part of the folder's identity
ALIKE = ("bert", "electra")  # the same layers under another name
OLD_ENDINGS = {"gamma": "weight", "beta": "bias"}  # of norms, in checkpoints of 2018 and 2019


def convert(checkpoint: str, folder: Path, model_type: str | None) -> list[str]:
    """Write a checkpoint as safetensors, without running any code that its file may carry.

    A pickle's values keep their type; GGUF is dequantised to float32.

    Args:
        checkpoint: A folder with `pytorch_model*.bin`, a `.gguf` file, or a hub id.
        folder: Gets weights, configuration, tokenizer, and the source's SHA-256; must be new.
        model_type: `bert` or `electra` where the configuration names the wrong one of the two;
            None keeps what it says.

    Returns:
        Names of a task model's parameters that the checkpoint does not have, the pooler among
        them; every run draws them anew.

    Raises:
        LookupError: If there is no such checkpoint, or it is not the body that its configuration
            describes.
        SpecError: If the folder is taken, or the file holds anything but tensors.
    """
    if folder.exists() and any(folder.iterdir()):
        raise _wrong(str(folder), "is not empty.")
    path = Path(checkpoint)
    gguf = path.suffix == ".gguf"
    if gguf and not path.is_file() or checkpoint.startswith((".", "/", "~")) and not path.exists():
        raise LookupError(f"no such checkpoint: {checkpoint!r}")
    if not path.exists():
        path = hub.download(checkpoint, None, (*DECIDING[1:], PICKLES))
    sources = [path] if gguf else sorted(path.glob(PICKLES))
    if not sources:
        raise LookupError(f"{checkpoint!r} has no {PICKLES}: there is nothing to convert")

    folder.mkdir(parents=True, exist_ok=True)
    try:
        weights = _from_gguf(path, folder) if gguf else _from_pickles(sources)
        if not gguf:
            _copy_the_rest(path, folder)
        if model_type:
            weights = _retyped(weights, folder / "config.json", model_type)
        safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        record: dict[str, Any] = {"sha256": {file.name: _sha256(file) for file in sources}}
        record |= {"model_type": model_type} if model_type else {}
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        return _loads(folder)
    except BaseException:
        shutil.rmtree(folder)  # ours alone: it was empty
        raise


def _loads(folder: Path) -> list[str]:
    """Check that every task model's body is there; the names of what is not, its head."""
    values = json.loads((folder / "config.json").read_text())
    kind = Image(()) if values.get("model_type") == "vit" else Regression(())
    model = Model(name="converted", checkpoint=str(folder))
    try:
        return Loaded(model, kind).new
    except LookupError as error:
        if values.get("model_type") in ALIKE:
            other = next(name for name in ALIKE if name != values["model_type"])
            text = f"{error.args[0]}; if it is {other}, add --model-type {other}"
            raise LookupError(text) from error
        raise


def _copy_the_rest(source: Path, folder: Path) -> None:
    """Configuration and tokenizer."""
    for kind in DECIDING[1:]:
        for file in sorted(source.glob(kind)):
            if not file.name.endswith(".index.json"):  # of the pickle's parts
                shutil.copyfile(file, folder / file.name)


def _from_pickles(files: list[Path]) -> dict[str, Tensor]:
    """The tensors of all files under their present names, each with memory of its own."""
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            held: Any = torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            text = f"is damaged or holds more than tensors, so it was not loaded ({reason})"
            raise _wrong(file.name, text) from error
        if not isinstance(held, dict):
            raise _wrong(file.name, f"holds a {type(held).__name__}, not tensors by name.")
        for name, tensor in held.items():
            if not isinstance(tensor, Tensor):
                text = f"is a {type(tensor).__name__}, not a tensor."
                raise _wrong(f"{file.name}, {name}", text)
            owner, dot, ending = name.rpartition(".")
            # Tied tensors are written once for each name: safetensors takes no shared memory, and
            # which of the names a task model needs depends on the model.
            weights[owner + dot + OLD_ENDINGS.get(ending, ending)] = tensor.clone().contiguous()
    return weights


def _from_gguf(file: Path, folder: Path) -> dict[str, Tensor]:
    """The dequantised tensors; writes configuration and tokenizer, which the file carries too."""
    import transformers  # takes seconds

    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
    except ImportError as error:
        text = "reading GGUF needs more packages: pip install 'finetuning-stability[gguf]'"
        raise LookupError(text) from error
    except (ValueError, struct.error) as error:
        raise LookupError(f"{str(file)!r} cannot be read as GGUF ({error})") from error
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    del model.config.quantization_config  # what is written is quantised no longer
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
    """Give the configuration another `model_type`, and the body the name that goes with it.

    Source: the hub tags both PubMedELECTRA checkpoints (Tinn et al. 2023) `bert`.
    """
    values = json.loads(config.read_text())
    values["model_type"] = model_type
    values.pop("architectures", None)
    bodies = {FAMILIES[kind].body for kind in ALIKE}
    renamed = {}
    for name, tensor in weights.items():
        body, _, inside = name.partition(".")
        renamed[f"{FAMILIES[model_type].body}.{inside}" if body in bodies else name] = tensor
    for name, tensor in renamed.items():
        if name.endswith("embeddings.word_embeddings.weight"):
            # BERT's configuration does not say it, and ELECTRA's default is 128.
            values.setdefault("embedding_size", tensor.shape[1])
    config.write_text(json.dumps(values, indent=2) + "\n")
    return renamed


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _wrong(where: str, text: str) -> SpecError:
    return SpecError("checkpoint", [Mistake(where, text)])
