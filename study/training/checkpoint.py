"""Resumable checkpoint: the file from which an interrupted run resumes bit for bit.

It is one safetensors file: numbers and structure are JSON in its header, tensors follow by number,
and the last tensor is the SHA-256 of all before it. Every save replaces the file atomically.
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
from study.techniques.state import no_heartbeat
from study.training.tensor_file import CheckpointError, Tree, digest_of, read_tree, write_tree

FILE = "checkpoint.safetensors"

log = logging.getLogger(__name__)


class ResumableCheckpoint:
    """A run's resumable checkpoint: when it is saved, and whether it may be used.

    An error here costs the checkpoint, never the run; it is logged as a warning.

    Attributes:
        heartbeat: Called at every optimizer step and every batch of an evaluation.
        resumed: Whether the run was resumed from the file.
    """

    def __init__(
        self, folder: Path, every: float, key: str, *, heartbeat: Callable[[], None] = no_heartbeat
    ) -> None:
        """Nothing is read or written yet.

        Args:
            folder: The run's own; on a cluster one that all machines share.
            every: Seconds between saves; a shorter run leaves no file.
            key: The run's key.
            heartbeat: See above.
        """
        self.heartbeat, self.resumed = heartbeat, False
        self._path = folder / FILE
        self._every = every
        self._identity: dict[str, str] = {"run": key}
        self._saved_at = time.monotonic()
        self._digest = b""  # of the file that was loaded

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved_at >= self._every

    def save(self, state: Callable[[], Tree]) -> None:
        """Replace the file by what `state` returns; after an error the old file stays."""
        try:
            write_tree(self._path, {"of": self._identity, "state": state()})
        except OSError as error:
            log.warning("%s could not be written, the run continues: %s", self._path, error)
        except CheckpointError as error:
            log.warning("this run saves no checkpoints and continues: %s", error)
            self._every = float("inf")
        self._saved_at = time.monotonic()

    def load(self, environment: dict[str, str]) -> Tree | None:
        """The saved state, on the CPU; None where there is none that can be trusted.

        Args:
            environment: What else changes bits; a file saved in another environment is not used.
        """
        self._identity.update(environment)
        try:
            for partial in self._path.parent.glob(f"*{PARTIAL}"):  # of a save that was cut short
                partial.unlink(missing_ok=True)
            if not self._path.exists():
                return None
            saved, self._digest = read_tree(self._path)
            if differing := [n for n, value in self._identity.items() if saved["of"][n] != value]:
                raise CheckpointError(f"it was saved under another {' and '.join(differing)}")
            return saved["state"]
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

    def check(self, state: Tree) -> None:
        """Compare the state after loading with the file, to the last bit.

        This finds a technique that changes something which is neither saved nor rebuilt at a start.

        Raises:
            CheckpointError: If they differ.
        """
        if digest_of({"of": self._identity, "state": state}) != self._digest:
            raise CheckpointError(
                "what is rebuilt at a start differs from what it was when this was saved"
            )
        self.resumed = True

    def refuse(self, reason: str) -> None:
        """Log why the file is not used."""
        log.warning("%s is not used, the run starts from scratch: %s", self._path, reason)

    def clear(self) -> None:
        """Remove the file at the end of a run; what cannot be removed stays."""
        with suppress(OSError):
            for file in [self._path, *self._path.parent.glob(f"*{PARTIAL}")]:
                file.unlink(missing_ok=True)
            self._path.parent.rmdir()


def digest(tree: Tree) -> str:
    """The SHA-256 of a tree's content.

    Raises:
        CheckpointError: If the tree holds what a checkpoint cannot.
    """
    return digest_of(tree).hex()


@torch.no_grad()
def restore(saved: Tree, target: Tree, device: torch.device) -> Tree:
    """Copy saved values into the existing tensors and containers as far as they match.

    In place, because hooks of a technique may hold references to them.

    Args:
        saved: From `ResumableCheckpoint.load`.
        target: The same part of a run that has just started; changed.
        device: For tensors that `target` lacks.
    """
    if isinstance(saved, Tensor):
        same = isinstance(target, Tensor) and (target.shape, target.dtype) == (
            saved.shape,
            saved.dtype,
        )
        return target.copy_(saved) if same else saved.to(device)
    if isinstance(saved, dict):
        target = target if isinstance(target, dict) else {}
        values = {name: restore(value, target.get(name), device) for name, value in saved.items()}
        target.clear()
        target.update(values)
        return target
    if isinstance(saved, list | tuple):
        old = list(target) if isinstance(target, list | tuple) else []
        old += [None] * (len(saved) - len(old))
        new = [restore(value, o, device) for value, o in zip(saved, old, strict=False)]
        if isinstance(saved, tuple):
            return tuple(new)
        target = target if isinstance(target, list) else []
        target[:] = new
        return target
    return saved
