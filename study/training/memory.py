"""Peak memory of a run."""

from pathlib import Path

import torch


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
