"""What this project uses of Ray's undocumented interfaces; checked with Ray 2.60.0.

`tests/study/execution/test_ray_internals.py` says what breaks when one of them is gone. Ray's
undocumented texts and files are read where they are needed: its error messages in `faults`, what
`ray up` leaves on the head in `capacity`, and the file that names a running cluster in `runner`.
"""

from ray import exceptions
from ray.air.execution._internal import actor_manager
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray.tune.execution import tune_controller
from ray.tune.experiment import trial

CHECKED = "2.60.0"

# All ways in which Ray says that a worker was lost. The others than the first come for instance
# from Ray's own out-of-memory killer, or from the loss of the node that owned an object.
LOST = (
    exceptions.RayActorError,
    exceptions.OutOfMemoryError,
    exceptions.WorkerCrashedError,
    exceptions.ObjectLostError,
)


def treat_all_losses_alike() -> None:
    """Make Tune fail only the trial, whichever error of `LOST` ends its worker.

    Tune 2.60 asks `isinstance(error, RayActorError)` in three modules, and any other error ends
    the whole study. `isinstance` takes a tuple, so the modules' name is rebound to all of `LOST`.
    Tune then reads `preempted` of the error, which only `RayActorError` has.
    """
    for module in (actor_manager, tune_controller, trial):
        module.RayActorError = LOST
    for error in LOST[1:]:
        error.preempted = False


def put_value(key: str, value: str) -> None:
    """Store a value in the cluster's key-value store, which every worker can read at once."""
    _internal_kv_put(key, value, overwrite=True)


def get_value(key: str) -> bytes | None:
    """A value from the cluster's key-value store; None if there is none."""
    value: bytes | None = _internal_kv_get(key)
    return value
