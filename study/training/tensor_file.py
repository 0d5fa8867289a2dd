"""Nested numbers, strings and tensors as one safetensors file that ends with its SHA-256."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from study.core.atomic import atomic

Tree = Any  # None, numbers, strings and tensors, in lists, tuples and dicts
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
    """A state that cannot be saved, or a file that cannot be resumed from; says why."""


def write_tree(path: Path, tree: Tree) -> None:
    """Write a tree atomically; it is on disk when this returns.

    Raises:
        CheckpointError: If the tree holds a type that cannot be written.
        OSError: If it cannot be written, as on a full disk.
    """
    sha256 = hashlib.sha256()
    with atomic(path, sync=True) as partial, partial.open("wb") as file:
        for piece in _pieces(tree):
            file.write(piece)
            sha256.update(piece)
        file.write(sha256.digest())


def read_tree(path: Path) -> tuple[Tree, bytes]:
    """Read a tree and verify its digest.

    Returns:
        The tree, on the CPU, and the digest.

    Raises:
        CheckpointError: If the digest is wrong.
    """
    sha256, left = hashlib.sha256(), path.stat().st_size - hashlib.sha256().digest_size
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            sha256.update(piece)
            left -= len(piece)
        if file.read() != sha256.digest():
            raise CheckpointError("it is damaged")
    with safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["tree"])
        names = set(file.keys()) - {DIGEST}
        # `safe_open` maps the file into memory; copies survive its replacement by the next save.
        tensors = [file.get_tensor(str(number)).clone() for number in range(len(names))]
    return _unflatten(shape, tensors), sha256.digest()


def digest_of(tree: Tree) -> bytes:
    """The digest with which `write_tree` would end the file."""
    sha256 = hashlib.sha256()
    for piece in _pieces(tree):
        sha256.update(piece)
    return sha256.digest()


def _pieces(tree: Tree) -> Iterator[bytes | memoryview]:
    """A safetensors file without its last 32 bytes, the digest.

    Written here, because the format's own library would need a copy of all tensors in memory.
    """
    tensors: list[Tensor] = []
    shape = _flatten(tree, tensors, "")
    header: dict[str, Any] = {"__metadata__": {"tree": json.dumps(shape)}}
    # As in the format's own library: wide types first, so that every tensor is aligned.
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


def _flatten(tree: Tree, tensors: list[Tensor], path: str) -> Any:
    """A tree as JSON. Tensors are appended to `tensors` and replaced by their index."""
    if tree is None or type(tree) in (bool, int, float, str):
        return tree
    if isinstance(tree, Tensor) and tree.dtype in DTYPES and tree.layout == torch.strided:
        tensors.append(tree)
        return {"tensor": len(tensors) - 1, "device": tree.device.type}
    if type(tree) in (list, tuple):
        parts = [_flatten(part, tensors, f"{path}/{n}") for n, part in enumerate(tree)]
        return {type(tree).__name__: parts}
    if type(tree) is dict:
        if invalid := [key for key in tree if type(key) not in (bool, int, float, str)]:
            raise CheckpointError(
                f"{path} has the key {invalid[0]!r}; keys must be strings or numbers"
            )
        return {"dict": [[k, _flatten(v, tensors, f"{path}/{k}")] for k, v in tree.items()]}
    raise CheckpointError(
        f"{path} is a {type(tree).__name__}; a checkpoint holds numbers, strings and tensors, in "
        "lists, tuples and dicts"
    )


def _unflatten(shape: Any, tensors: list[Tensor]) -> Tree:
    """The inverse of `_flatten`."""
    if not isinstance(shape, dict):
        return shape
    if "tensor" in shape:
        return tensors[shape["tensor"]]
    if "dict" in shape:
        return {key: _unflatten(part, tensors) for key, part in shape["dict"]}
    if "tuple" in shape:
        return tuple(_unflatten(part, tensors) for part in shape["tuple"])
    return [_unflatten(part, tensors) for part in shape["list"]]
