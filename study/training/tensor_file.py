"""One safetensors file for a tree of numbers, texts and tensors, with its digest."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from study.core.atomic import sync_folder

Tree = Any  # None, numbers, texts and tensors, in lists, tuples and dicts
PARTIAL = ".partial"
DIGEST = "sha256"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class CheckpointError(Exception):
    """What cannot be saved, or does not fit where it is to go on; says why."""


def write_tree(path: Path, tree: Tree) -> None:
    """Write a tree in one step: to a partial file first, then renamed.

    Raises:
        CheckpointError: If the tree holds what cannot be written.
        OSError: If the disk cannot take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(uuid.uuid4().hex + PARTIAL)  # a lost worker may still write its own
    seen = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for piece in _pieces(tree):
                file.write(piece)
                seen.update(piece)
            file.write(seen.digest())
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_tree(path: Path) -> tuple[Tree, bytes]:
    """A tree, and the digest that was found and is right."""
    seen, left = hashlib.sha256(), path.stat().st_size - hashlib.sha256().digest_size
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            seen.update(piece)
            left -= len(piece)
        if file.read() != seen.digest():
            raise CheckpointError("it is damaged")
    with safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["tree"])
        names = set(file.keys()) - {DIGEST}
        # Copies, which do not depend on the file.
        tensors = [file.get_tensor(str(number)).clone() for number in range(len(names))]
    return _grown(shape, tensors), seen.digest()


def digest_of(tree: Tree) -> bytes:
    """The digest that `write_tree` would end the file with."""
    seen = hashlib.sha256()
    for piece in _pieces(tree):
        seen.update(piece)
    return seen.digest()


def _pieces(tree: Tree) -> Iterator[bytes | memoryview]:
    """A safetensors file but for its last 32 bytes, so that no copy of all tensors is needed."""
    tensors: list[Tensor] = []
    shape = _flat(tree, tensors, "")
    header: dict[str, Any] = {"__metadata__": {"tree": json.dumps(shape)}}
    # As the format's own library has it: wide types first, so that each lies where it may.
    order = sorted(range(len(tensors)), key=lambda n: (-tensors[n].element_size(), n))
    end = 0
    for number in order:
        tensor = tensors[number]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[str(number)] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    size = hashlib.sha256().digest_size
    header[DIGEST] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for number in order:
        flat = tensors[number].detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


def _flat(tree: Tree, tensors: list[Tensor], path: str) -> Any:
    """A tree as JSON, in which tensors are numbers; they are appended to `tensors`."""
    if tree is None or type(tree) in (bool, int, float, str):
        return tree
    if isinstance(tree, Tensor) and tree.dtype in DTYPES and tree.layout == torch.strided:
        tensors.append(tree)
        return {"tensor": len(tensors) - 1, "device": tree.device.type}
    if type(tree) in (list, tuple):
        parts = [_flat(part, tensors, f"{path}/{n}") for n, part in enumerate(tree)]
        return {type(tree).__name__: parts}
    if type(tree) is dict:
        if strange := [key for key in tree if type(key) not in (bool, int, float, str)]:
            raise CheckpointError(
                f"{path} has the key {strange[0]!r}; keys must be texts or numbers"
            )
        return {"dict": [[k, _flat(v, tensors, f"{path}/{k}")] for k, v in tree.items()]}
    raise CheckpointError(
        f"{path} is a {type(tree).__name__}; a checkpoint holds numbers, texts and tensors, in "
        "lists, tuples and dicts"
    )


def _grown(shape: Any, tensors: list[Tensor]) -> Tree:
    """The tree that `_flat` took apart."""
    if not isinstance(shape, dict):
        return shape
    if "tensor" in shape:
        return tensors[shape["tensor"]]
    if "dict" in shape:
        return {key: _grown(part, tensors) for key, part in shape["dict"]}
    if "tuple" in shape:
        return tuple(_grown(part, tensors) for part in shape["tuple"])
    return [_grown(part, tensors) for part in shape["list"]]
