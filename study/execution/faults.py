"""What goes wrong outside a study file: clusters that are unfit, runs that are lost."""

from dataclasses import dataclass
from typing import Literal

Cause = Literal["machine", "process", "memory", "hang", "code", "unfit"]

RETRIES: dict[Cause, int] = {
    "machine": 20,  # cheap machines come and go, and the run is not to blame
    "process": 2,
    "memory": 2,  # with a machine to itself; Ray may have ended it for what another took
    "hang": 2,
    "code": 0,  # it would fail again
}
NO_MEMORY = ("DefaultCPUAllocator: ", "CUDA error: out of memory", "ALLOC_FAILED")  # torch's words
# How Ray words the end of a worker process: of its errors Tune keeps no more than that.
SIGNS: dict[Cause, tuple[str, ...]] = {
    "memory": ("low on memory", *NO_MEMORY),
    # A worker cannot be reached before Ray has declared its node dead.
    "machine": ("node died", "node has died", "node is dead", "node was terminated", "its node")
    + ("is unavailable", "Failed to retrieve object"),
}
DIED = ("actor died", "worker died")
NO_SET_UP = ("creation task", "Failed to set up runtime environment")
SAID: dict[Cause, str] = {
    "machine": "its machine was lost again and again",
    "process": "its worker process died again and again",
    "memory": "out of memory, even with a machine to itself",
    "hang": "it stopped making progress, again and again",
}


class MachineRefusedError(Exception):
    """A machine that came late is not fit for the study; says which, and why."""


class ClusterError(RuntimeError):
    """The cluster cannot be joined, or cannot do the study's runs; says the cure."""


@dataclass(frozen=True)
class Fault:
    """What kept a run from its outcome.

    Attributes:
        cause: Decides what happens next; `unfit` is a machine that refuses runs, see
            `MachineRefusedError`.
        reason: One line for people.
        trace: All that is known.
    """

    cause: Cause
    reason: str
    trace: str


def death(told: str, hung: str) -> Fault:
    """The fault of a run whose worker process ended under it, or never came up.

    Args:
        told: Ray's error.
        hung: Where the worker's threads were when its watchdog ended it; empty if it did not.
    """
    if hung:
        return Fault("hang", SAID["hang"], hung)
    for cause, signs in SIGNS.items():
        if any(sign in told for sign in signs):
            return Fault(cause, SAID[cause], told)
    if any(sign in told for sign in NO_SET_UP):  # whichever run it would have done
        return Fault("unfit", _last_line(told), told)
    if any(sign in told for sign in DIED) or not told.strip():
        return Fault("process", SAID["process"], told)
    return Fault("code", _last_line(told), told)


def _last_line(told: str) -> str:
    """What was raised: the last line that is no advice of torch's to its developers."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    said = [line for line in lines if "Error: " in line]
    return (said or lines)[-1]
