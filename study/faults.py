"""What goes wrong outside a study file: clusters that are unfit, runs that are lost."""

from dataclasses import dataclass
from typing import Literal

Cause = Literal["machine", "process", "memory", "hang", "code"]

RETRIES: dict[Cause, int] = {
    "machine": 20,  # cheap machines come and go, and the run is not to blame
    "process": 2,
    "memory": 1,  # once more with a machine to itself
    "hang": 2,
    "code": 0,  # it would fail again
}
# How Ray words the end of a worker process; its errors have no field for the cause.
SIGNS: dict[Cause, tuple[str, ...]] = {
    "memory": ("low on memory", "OutOfMemoryError"),
    "machine": ("node died", "node has died", "node is dead", "node was terminated", "its node"),
}
SAID: dict[Cause, str] = {
    "machine": "its machine was lost again and again",
    "process": "its worker process died again and again",
    "memory": "out of memory, even with a machine to itself",
    "hang": "it stopped making progress, again and again",
}


class ClusterError(RuntimeError):
    """The cluster cannot be joined, or cannot do the study's runs; says the cure."""


@dataclass(frozen=True)
class Fault:
    """What kept a run from its outcome.

    Attributes:
        cause: Decides what happens next.
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
    if "ActorDiedError" in told or "actor died" in told or not told.strip():
        return Fault("process", SAID["process"], told)
    return Fault("code", told.strip().splitlines()[-1], told)
