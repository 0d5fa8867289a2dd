"""Memory of a run: the peak on the device, and what one training step holds.

Where memory goes is counted in bytes of tensors, which no allocator, cache or library blurs: that
of a step says what a technique saves, and the peak whether a run fits on a device.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from study.models.gradient_checkpointing import probed
from study.techniques.state import TrainState

NO_MEMORY = ("DefaultCPUAllocator: ", "CUDA error: out of memory", "ALLOC_FAILED")  # of torch


class MemorySplit(NamedTuple):
    """What the tensors of a training step hold, in bytes.

    Attributes:
        weights: Parameters and buffers, and copies of them that a technique keeps.
        gradients: Once all are there. With `None` for the gradient of a frozen parameter.
        optimizer: The optimizer's states, once every weight that is trained has been updated.
        activations: The most that autograd holds for the backward pass at a time.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int


class SavedActivations:
    """Meter of the tensors that autograd saves for the backward pass.

    Counted are storages, each once however many views of it are saved, without those of weights and
    inputs, which are there anyway. What `ctx.save_for_backward` saves counts as well; what an
    autograd function keeps as an attribute does not.

    Attributes:
        peak: The most bytes that were held at a time.

    Source: the storages that a pair of saved-tensor hooks sees; no value and no bit changes.
    """

    def __init__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> None:
        """Nothing is counted before `counting`.

        Args:
            model: Its parameters and buffers are not counted.
            batch: Nor are its tensors.
        """
        present = [*model.parameters(), *model.buffers(), *batch.values()]
        self.peak = 0
        self._held = 0
        self._counts: dict[int, int] = {}  # by storage: how many saved tensors use it
        self._without = {_identity(tensor.untyped_storage()) for tensor in present}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is saved within, also by layers that the backward pass computes again."""

        def hooks() -> saved_tensors_hooks:
            return saved_tensors_hooks(
                lambda tensor: _Saved(tensor, self), lambda saved: saved.tensor
            )

        with hooks(), probed(hooks):
            yield

    def add(self, storage: int, size: int) -> None:
        """A tensor on this storage is saved."""
        if storage in self._without:
            return
        before = self._counts.get(storage, 0)
        self._counts[storage] = before + 1
        if not before:
            self._held += size
            self.peak = max(self.peak, self._held)

    def remove(self, storage: int, size: int) -> None:
        """A tensor on this storage is no longer saved."""
        if storage not in self._counts:
            return
        self._counts[storage] -= 1
        if not self._counts[storage]:
            del self._counts[storage]
            self._held -= size


class _Saved:
    """A saved tensor; autograd drops it once the backward pass has used it."""

    __slots__ = ("_meter", "_size", "_storage", "tensor")

    def __init__(self, tensor: Tensor, meter: SavedActivations) -> None:
        # Detached: an output that its own operation saves would else keep that operation, and so
        # itself, for ever where no backward pass follows. Autograd attaches it again.
        self.tensor, self._meter = tensor.detach(), meter
        storage = tensor.untyped_storage()
        self._storage, self._size = _identity(storage), storage.nbytes()
        meter.add(self._storage, self._size)

    def __del__(self) -> None:
        self._meter.remove(self._storage, self._size)


def _identity(storage: torch.UntypedStorage) -> int:
    """What distinguishes a storage from all others, on any device, as long as a tensor keeps it."""
    return int(storage._cdata)  # data_ptr() is 0 for all on the meta device


def measured_split(
    state: TrainState, optimizer: torch.optim.Optimizer, gradients: int, activations: int
) -> MemorySplit:
    """What a step holds; call it after the optimizer's step.

    Args:
        state: The run.
        optimizer: Of the current phase.
        gradients: Bytes of all gradients, before the optimizer's step.
        activations: Bytes.
    """
    copies = [state.memo, state.fixed, state.start if state.start_read else None]
    weights = [*state.model.parameters(), *state.model.buffers(), *_tensors(copies)]
    return MemorySplit(bytes_of(weights), gradients, state_bytes(optimizer), activations)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of an optimizer's states so far; those of a weight begin with its first update."""
    return bytes_of(_tensors(list(optimizer.state.values())))


def complete_state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of an optimizer's states once it has updated every weight, which it does for this."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in optimizer.state:
                parameter.grad = torch.zeros_like(parameter)
                step_alone(optimizer, group, parameter)
    return state_bytes(optimizer)


def step_alone(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> None:
    """Update one weight of a group as a step for all would, and drop its gradient."""
    groups, members = optimizer.param_groups, group["params"]
    optimizer.param_groups, group["params"] = [group], [parameter]
    try:
        optimizer.step()
    finally:
        optimizer.param_groups, group["params"] = groups, members
    parameter.grad = None


def bytes_of(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of tensors, a storage that several of them share counted once."""
    storages = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({_identity(storage): storage.nbytes() for storage in storages}.values())


def _tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors in lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(value)


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the machine is out of memory; torch has a class for some cases only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error) for sign in NO_MEMORY
    )


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement; a reused worker would otherwise report an earlier run's peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # Linux: resets VmHWM, the process's peak resident set size


def peak_memory(device: torch.device) -> int:
    """Bytes since the last reset: allocated on a GPU, resident in the process on a CPU.

    Returns:
        The peak; 0 where the system does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
