"""A run's place on disk, from which it goes on bit for bit.

One safetensors file: numbers and structure are JSON in its header, tensors follow by number, and
the last tensor is the SHA-256 of all before it. It is written beside its place and renamed into it.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from study.disk import sync_folder

Tree = Any  # None, numbers, texts and tensors, in lists, tuples and dicts

FILE = "checkpoint.safetensors"
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
# What moves the bits of a run.
PACKAGES = ("finetuning-stability", "torch", "transformers", "peft", "numpy")

log = logging.getLogger(__name__)


class Unfit(Exception):
    """What cannot be saved, or does not fit where it is to go on; says why."""


def still() -> None:
    """Nobody watches."""


class Checkpoints:
    """Where a run saves its place and when, and who is told that it moves.

    What goes wrong here costs the checkpoint, never the run: it is told as a warning.

    Attributes:
        beat: Called at every optimizer step and every batch of an evaluation.
        resumed: Whether the run went on from a place that was saved.
    """

    def __init__(
        self, folder: Path, every: float, key: str, *, beat: Callable[[], None] = still
    ) -> None:
        """One run's.

        Args:
            folder: The run's own; on a cluster one that all machines share.
            every: Seconds from one save to the next; a shorter run leaves none.
            key: The run's.
            beat: See above.
        """
        self.beat, self.resumed = beat, False
        self._path = folder / FILE
        self._every = every
        self._of: dict[str, str] = {"run": key}
        self._saved = time.monotonic()
        self._read = b""

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved >= self._every

    def save(self, place: Callable[[], Tree]) -> None:
        """Replace what is saved by what `place` gives; the old one stands until that is whole."""
        try:
            _write(self._path, {"of": self._of, "place": place()})
        except OSError as error:
            log.warning("%s could not be written, the run goes on: %s", self._path, error)
        except Unfit as error:
            log.warning("this run leaves no checkpoints, and goes on: %s", error)
            self._every = float("inf")
        self._saved = time.monotonic()

    def load(self, surroundings: dict[str, str]) -> Tree | None:
        """The saved place, on the CPU; None where there is none that can be trusted.

        Args:
            surroundings: What else moves bits; a place saved under others is not read.
        """
        self._of.update(surroundings)
        try:
            for partial in self._path.parent.glob(f"*{PARTIAL}"):  # of a save that was cut short
                partial.unlink(missing_ok=True)
            if not self._path.exists():
                return None
            saved, self._read = _read(self._path)
            if others := [name for name, value in self._of.items() if saved["of"][name] != value]:
                raise Unfit(f"it was saved under another {' and '.join(others)}")
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, Unfit) as error:
            self.refuse(str(error))
            return None
        return saved["place"]

    def check(self, place: Tree) -> None:
        """See that a run put where it was would write what was read, to the last bit.

        This finds what a technique changes and does not keep where it is saved.

        Raises:
            Unfit: If not.
        """
        if _digest({"of": self._of, "place": place}) != self._read:
            raise Unfit("what is made again at a start is not what it was when this was saved")
        self.resumed = True

    def refuse(self, reason: str) -> None:
        """Say why a checkpoint is not used."""
        log.warning("%s is not used, the run starts anew: %s", self._path, reason)

    def clear(self) -> None:
        """Remove what was saved; for the end of the run. What cannot be removed stays."""
        with suppress(OSError):
            for file in [self._path, *self._path.parent.glob(f"*{PARTIAL}")]:
                file.unlink(missing_ok=True)
            self._path.parent.rmdir()


def surroundings(device: torch.device, own: Iterable[object]) -> dict[str, str]:
    """What moves a run's bits and is not in its key: device, packages, code.

    Args:
        device: Where it trains.
        own: Classes and functions that may be a user's own: their modules count, and the user's
            other modules that those import; or the version of the package that brought them.
    """
    processor = platform.machine() + " " + torch.backends.cpu.get_cpu_capability()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    modules = {str(thing.__module__) for thing in own}
    outside = tuple(sorted(name for name in modules if not name.startswith("study.")))
    return {
        "device": gpu or processor,
        "packages": versions_of(PACKAGES + _installed(outside)),
        "code": code_of(outside),
    }


def digest(tree: Tree) -> str:
    """The SHA-256 of what a tree holds.

    Raises:
        Unfit: If it holds what a checkpoint cannot.
    """
    return _digest(tree).hex()


@torch.no_grad()
def put(saved: Tree, place: Tree, device: torch.device) -> Tree:
    """What was saved, in the tensors and containers of `place` as far as it has them.

    Hooks that hold on to those then see it.

    Args:
        saved: From `Checkpoints.load`.
        place: What a start made of the same; changed.
        device: Of tensors that `place` does not have.
    """
    if isinstance(saved, Tensor):
        if isinstance(place, Tensor) and (place.shape, place.dtype) == (saved.shape, saved.dtype):
            return place.copy_(saved)
        return saved.to(device)
    if isinstance(saved, dict):
        place = place if isinstance(place, dict) else {}
        values = {name: put(value, place.get(name), device) for name, value in saved.items()}
        place.clear()
        place.update(values)
        return place
    if isinstance(saved, list | tuple):
        before = list(place) if isinstance(place, list | tuple) else []
        before += [None] * (len(saved) - len(before))
        both = [put(value, old, device) for value, old in zip(saved, before, strict=False)]
        if isinstance(saved, tuple):
            return tuple(both)
        place = place if isinstance(place, list) else []
        place[:] = both
        return place
    return saved


@cache
def versions_of(packages: tuple[str, ...]) -> str:
    """Python's version and those of packages, as one line."""
    each = (f"{package} {importlib.metadata.version(package)}" for package in packages)
    return ", ".join([f"python {platform.python_version()}", *each])


@cache
def _installed(modules: tuple[str, ...]) -> tuple[str, ...]:
    """The packages that brought these modules, but for a user's own files."""
    brought = importlib.metadata.packages_distributions()
    found = {package for name in modules for package in brought.get(name.partition(".")[0], [])}
    return tuple(sorted(found - set(PACKAGES)))


@cache  # as it was when the process imported it, more or less
def code_of(outside: tuple[str, ...] = ()) -> str:
    """A digest of this package's sources, but for study files, and of a user's own modules."""
    seen, package = hashlib.sha256(), Path(__file__).parent
    sources = sorted(set(package.rglob("*.py")) - set(package.glob("designs/*.py")))
    for file in [*sources, *_own_files(outside)]:
        seen.update(hashlib.sha256(file.read_bytes()).digest())
    return seen.hexdigest()[:12]


def _own_files(names: Iterable[str]) -> list[Path]:
    """Files of these modules and of what they import, where they are the user's own.

    Not of all that are loaded: a process has loaded those of earlier runs too. Nor of a folder: on
    a cluster each lies in a folder of its own.
    """
    left = list(names)
    found: dict[str, Path] = {}
    while left:
        name = left.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or name in found:
            continue
        if _is_own(Path(file)):
            found[name] = Path(file)
            left += [name.rpartition(".")[0], *_imported(name, found[name])]
    return [found[name] for name in sorted(found)]


def _is_own(file: Path) -> bool:
    """Whether it is neither installed nor part of Python or of this package."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return False
    others = (Path(__file__).parent, Path(sysconfig.get_path("stdlib")))
    return not any(file.is_relative_to(folder) for folder in others)


def _imported(name: str, file: Path) -> list[str]:
    """What a module's import statements may name as modules."""
    package, found = sys.modules[name].__package__, []
    try:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                start = importlib.util.resolve_name(start, package)
                found += [start, *(f"{start}.{alias.name}" for alias in node.names)]
    except (SyntaxError, ValueError, ImportError):  # compiled, or changed since it was loaded
        return []
    return found


def _write(path: Path, tree: Tree) -> None:
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


def _read(path: Path) -> tuple[Tree, bytes]:
    """A tree, and the digest that was found and is right."""
    seen, left = hashlib.sha256(), path.stat().st_size - hashlib.sha256().digest_size
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            seen.update(piece)
            left -= len(piece)
        if file.read() != seen.digest():
            raise Unfit("it is damaged")
    with safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["tree"])
        names = set(file.keys()) - {DIGEST}
        # Copies, which do not depend on the file.
        tensors = [file.get_tensor(str(number)).clone() for number in range(len(names))]
    return _grown(shape, tensors), seen.digest()


def _digest(tree: Tree) -> bytes:
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
            raise Unfit(f"{path} has the key {strange[0]!r}; keys must be texts or numbers")
        return {"dict": [[k, _flat(v, tensors, f"{path}/{k}")] for k, v in tree.items()]}
    raise Unfit(
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
