"""A run's place on disk, from which it goes on bit for bit.

One safetensors file: numbers and structure are JSON in its header, tensors follow by number, and
the last tensor is the SHA-256 of all before it. It is written beside its place and renamed into it.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from study.core.atomic import PARTIAL
from study.techniques.state import still
from study.training.tensor_file import (
    CheckpointError,
    Tree,
    digest_of,
    read_tree,
    write_tree,
)

FILE = "checkpoint.safetensors"

log = logging.getLogger(__name__)


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
            write_tree(self._path, {"of": self._of, "place": place()})
        except OSError as error:
            log.warning("%s could not be written, the run goes on: %s", self._path, error)
        except CheckpointError as error:
            log.warning("this run leaves no checkpoints, and goes on: %s", error)
            self._every = float("inf")
        self._saved = time.monotonic()

    def load(self, environment: dict[str, str]) -> Tree | None:
        """The saved place, on the CPU; None where there is none that can be trusted.

        Args:
            environment: What else moves bits; a place saved under others is not read.
        """
        self._of.update(environment)
        try:
            for partial in self._path.parent.glob(f"*{PARTIAL}"):  # of a save that was cut short
                partial.unlink(missing_ok=True)
            if not self._path.exists():
                return None
            saved, self._read = read_tree(self._path)
            if others := [name for name, value in self._of.items() if saved["of"][name] != value]:
                raise CheckpointError(f"it was saved under another {' and '.join(others)}")
        except (
            OSError,
            SafetensorError,
            ValueError,
            LookupError,
            TypeError,
            CheckpointError,
        ) as error:
            self.refuse(str(error))
            return None
        return saved["place"]

    def check(self, place: Tree) -> None:
        """See that a run put where it was would write what was read, to the last bit.

        This finds what a technique changes and does not keep where it is saved.

        Raises:
            CheckpointError: If not.
        """
        if digest_of({"of": self._of, "place": place}) != self._read:
            raise CheckpointError(
                "what is made again at a start is not what it was when this was saved"
            )
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


def digest(tree: Tree) -> str:
    """The SHA-256 of what a tree holds.

    Raises:
        CheckpointError: If it holds what a checkpoint cannot.
    """
    return digest_of(tree).hex()


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
