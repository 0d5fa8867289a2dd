"""What a checkpoint's files hold: damage is found by their first bytes, without loading them."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from study.core.spec import SpecError
from study.models.model import Model, checkpoint_error

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
POINTER = b"version https://git-lfs"  # how a Git LFS pointer begins
AGAIN = "download the checkpoint again"
FLOATS = ("F64", "F32", "F16", "BF16")  # safetensors' names of the types that can be fine-tuned


def check_files(model: Model) -> None:
    """Find damaged and missing files of a checkpoint.

    Raises:
        SpecError: With all of them.
    """
    if texts := list(dict.fromkeys(_problems(model.folder()))):
        mistakes = [checkpoint_error(model, text).mistakes[0] for text in texts]
        raise SpecError(f"model {model.name!r}", mistakes)


@cache
def stored_shapes(folder: Path) -> dict[str, Tensor]:
    """A stand-in for every tensor of the weights, by name: of its shape, and without memory.

    Args:
        folder: One that `check_files` finds nothing wrong with.
    """
    shapes = {}
    for file in _weight_files(folder):
        with safetensors.safe_open(file, framework="pt") as opened:
            names = opened.keys()  # not iterable itself
            for name in names:
                shapes[name] = torch.zeros(()).expand(opened.get_slice(name).get_shape())
    return shapes


def _problems(folder: Path) -> Iterator[str]:
    if not (folder / "config.json").is_file():
        yield _without_configuration(folder)
        return
    try:
        weights = _weight_files(folder)
    except LookupError as error:
        yield error.args[0]
        return
    if missing := [file.name for file in weights if not file.is_file()]:
        yield f"the weights lack {', '.join(missing[:3])}, which {INDEX} names; {AGAIN}."
    # Others may be pointers without harm, such as weights in a format that is not read.
    whole = folder / "tokenizer.json"
    tokenizer = [whole] if whole.is_file() else [*folder.glob("*.txt"), *folder.glob("*.model")]
    for file in [folder / "config.json", *sorted(tokenizer), *weights]:
        if not file.is_file():
            continue
        with file.open("rb") as stream:
            begin = stream.read(len(POINTER))
        if begin == POINTER:
            yield (
                f"{file.name} is a Git LFS pointer instead of the file; run `git lfs pull` in "
                f"{str(folder)!r}, or {AGAIN}."
            )
        elif not begin and file.suffix != ".txt":
            yield f"{file.name} is empty; {AGAIN}."
        elif file.name == "config.json":
            yield from _configuration_problems(file)
        elif file in weights:
            yield from _header_problems(file)


def _without_configuration(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return (
            "the folder holds an adapter, not a model; merge it into its base model (in peft: "
            "merge_and_unload), save that, and name its folder."
        )
    return "the folder has no config.json; add the one that belongs to the weights."


def _configuration_problems(file: Path) -> Iterator[str]:
    """Whether config.json can be read, and the checkpoint can be fine-tuned at all."""
    try:
        values = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        yield f"config.json is not valid JSON ({error}); correct it, or {AGAIN}."
        return
    if not isinstance(values, dict):
        yield f"config.json is not a JSON object; {AGAIN}."
        return
    if not values.get("model_type"):
        yield 'config.json does not name the architecture; add its "model_type", such as "bert".'
    if quantised := values.get("quantization_config"):
        yield _quantised(f"by {quantised.get('quant_method', 'an unnamed method')}")


def _quantised(how: str) -> str:
    return (
        f"the weights are quantised ({how}) and cannot be fine-tuned; name the checkpoint that "
        "they were made from."
    )


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads.

    Raises:
        LookupError: If there are weights under other names only.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            names = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LookupError(f"{INDEX} is damaged; {AGAIN}.") from error
        return [folder / name for name in sorted(set(names))]
    found = ", ".join(sorted(file.name for file in folder.glob("*.safetensors"))[:3])
    raise LookupError(
        f"the folder has {found}, but neither {WEIGHTS} nor {INDEX}, which says what is in which "
        "file; add the file that is missing."
    )


def _header_problems(file: Path) -> Iterator[str]:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            names = opened.keys()  # not iterable itself
            types = {name: opened.get_slice(name).get_dtype() for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        yield f"{file.name} is cut short or damaged ({error}); {AGAIN}."
        return
    for name, stored in types.items():
        if name.endswith("weight") and stored not in FLOATS:
            yield _quantised(f"{name} has the type {stored}")
            return
