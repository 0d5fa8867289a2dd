"""Faults outside a study file: lost runs, classified by cause, and clusters that cannot be used."""

from dataclasses import dataclass
from typing import Literal

from study.training.memory import NO_MEMORY

Cause = Literal["machine", "process", "memory", "hang", "code", "refused"]

RETRIES: dict[Cause, int] = {
    "machine": 20,  # spot machines come and go, and the run is not to blame
    "process": 2,
    "memory": 2,  # with a machine to itself; another run may have taken the memory
    "hang": 2,
    "code": 0,  # it would fail again
}
# Parts of Ray's messages about the end of a worker process; Tune keeps only the error's text.
SIGNS: dict[Cause, tuple[str, ...]] = {
    "memory": ("low on memory", *NO_MEMORY),
    # "unavailable": Ray cannot reach a worker before it has declared the node dead.
    "machine": ("node died", "node has died", "node is dead", "node was terminated", "its node")
    + ("is unavailable", "Failed to retrieve object"),
}
DIED = ("actor died", "worker died")
NO_SET_UP = ("creation task", "Failed to set up runtime environment")
REASONS: dict[Cause, str] = {
    "machine": "its machine was lost repeatedly",
    "process": "its worker process died repeatedly",
    "memory": "out of memory, even with a machine to itself",
    "hang": "it stopped making progress repeatedly",
}


class MachineRefusedError(Exception):
    """A machine that joined late cannot execute the study's runs; says which, and why."""


class ClusterError(RuntimeError):
    """The cluster cannot be joined, or cannot execute the study's runs; says what to do."""


@dataclass(frozen=True)
class Fault:
    """What kept a run from its outcome.

    Attributes:
        cause: Decides what happens next; `refused` is a machine that cannot execute runs of the
            study, see `MachineRefusedError`.
        reason: One line for people.
        trace: All that is known.
    """

    cause: Cause
    reason: str
    trace: str


def classify(error: str, hang_trace: str) -> Fault:
    """The fault of a run whose worker process ended during the run, or could not start.

    Args:
        error: Text of Ray's error.
        hang_trace: Traceback of the worker's threads if its watchdog ended it; else empty.
    """
    if hang_trace:
        return Fault("hang", REASONS["hang"], hang_trace)
    for cause, signs in SIGNS.items():
        if any(sign in error for sign in signs):
            return Fault(cause, REASONS[cause], error)
    if any(sign in error for sign in NO_SET_UP):  # no run could begin there
        return Fault("refused", _last_line(error), error)
    if any(sign in error for sign in DIED) or not error.strip():
        return Fault("process", REASONS["process"], error)
    return Fault("code", _last_line(error), error)


def _last_line(error: str) -> str:
    """The exception: the last line with `Error: `, since torch appends advice to developers."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    raised = [line for line in lines if "Error: " in line]
    return (raised or lines)[-1]
