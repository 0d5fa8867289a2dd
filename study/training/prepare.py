"""A task's data as training takes it, encoded once for each checkpoint and kept on disk."""

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study.core.spec import digest
from study.models.loading import processor
from study.models.model import Model
from study.tasks import TaskData
from study.tasks.kinds import Kind, Split
from study.tasks.kinds.encoded import Encoded

ENCODERS = ("tokenizers", "transformers", "pillow")
FORMAT = 1  # of the files below; a change of `kinds` that changes what is encoded raises it


class Prepared(NamedTuple):
    """A task's data as training takes it.

    Attributes:
        splits: `train`, `dev` and `test`, encoded.
        kind: What a model's outputs for it mean.
    """

    splits: dict[str, Encoded]
    kind: Kind


def prepare(data: TaskData, read: Any, max_length: int) -> Prepared:
    """Encode all splits.

    Args:
        data: The task's rows.
        read: The checkpoint's tokenizer or image processor, as `models.processor` gives it.
        max_length: Tokens per row at most.
    """
    splits = {
        name: data.kind.encode(split, read, max_length=max_length, truncate=data.truncate)
        for name, split in data.splits.items()
    }
    return Prepared(splits, data.kind)


def prepare_once(data: TaskData, model: Model, max_length: int, folder: Path) -> Prepared:
    """The same, from the folder where these rows were encoded for this checkpoint before.

    Args:
        data: The task's rows.
        model: The checkpoint.
        max_length: Tokens per row at most.
        folder: Holds one file per combination of rows, checkpoint and length; made if absent.
    """
    name = digest(
        {
            "format": FORMAT,
            "kind": data.kind.name,
            "data": data.fingerprint,
            "model": model.identity(),
            "max_length": max_length,
            "truncate": data.truncate,
            "versions": [importlib.metadata.version(name) for name in ENCODERS],
        }
    )
    file = folder / f"{name}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as opened:
            stored = dict(opened)
        splits = {
            part: _restored(stored, f"{part}/", split, data.kind)
            for part, split in data.splits.items()
        }
        return Prepared(splits, data.kind)
    made = prepare(data, processor(model, type(data.kind)), max_length)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as stream:
        np.savez(stream, **{k: v for part in made.splits for k, v in _flat(part, made).items()})
    partial.replace(file)
    return made


def _flat(part: str, made: Prepared) -> dict[str, Any]:
    encoded = made.splits[part]
    arrays = {"starts": encoded.starts, "units": encoded.units}
    for group in ("columns", "arrays", "aside"):
        arrays |= {f"{group}/{name}": array for name, array in getattr(encoded, group).items()}
    arrays |= {f"pad/{name}": np.array(value) for name, value in encoded.pad.items()}
    if encoded.pixels is not None:
        arrays["pixels"] = np.array(encoded.pixels)
    return {f"{part}/{name}": array for name, array in arrays.items()}


def _restored(stored: Mapping[str, Any], prefix: str, split: Split, kind: Kind) -> Encoded:
    own = {
        name.removeprefix(prefix): array
        for name, array in stored.items()
        if name.startswith(prefix)
    }

    def group(name: str) -> dict[str, Any]:
        return {k.removeprefix(f"{name}/"): v for k, v in own.items() if k.startswith(f"{name}/")}

    pixels = own.get("pixels")
    return Encoded(
        split.ids,
        kind.references(split),
        own["starts"],
        own["units"],
        group("columns"),
        {name: int(value) for name, value in group("pad").items()},
        group("arrays"),
        group("aside"),
        kind.contexts(split),
        None if pixels is None else (tuple(pixels[0].tolist()), tuple(pixels[1].tolist())),
    )
