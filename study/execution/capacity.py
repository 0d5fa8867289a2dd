"""Capacity: how many runs the machines can hold, now and while a study runs."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.execution.faults import ClusterError
from study.execution.queue import Progress

GROWTH = "ray_bootstrap_config.yaml"  # what `ray up` leaves in the head's home; JSON

REFRESH_SECONDS = 5.0  # between two looks at what the cluster holds
RETURN_SECONDS = 900.0  # an autoscaler takes minutes to replace a machine
CLOSED_SECONDS = 15.0  # until Tune has processed all earlier results and losses


# --- of the machines --------------------------------------------------------------------------


def amount(unit: str) -> float:
    """How much of a resource, such as `GPU`, the cluster has now."""
    return float(ray.cluster_resources().get(unit, 0.0))


def runs_at_once(need: Mapping[str, float]) -> int:
    """Number of runs that the cluster's machines hold at once, as they are now.

    Args:
        need: What a run takes, by the name of the resource; a run is on one machine.
    """
    return sum(runs_that_fit(node["Resources"], need) for node in live_nodes())


def unschedulable(needs: Mapping[str, Mapping[str, float]]) -> set[str]:
    """Names of the runs that no machine of the cluster can hold, as they are now.

    Args:
        needs: What each run takes: by the run's name, then by the name of the resource.
    """
    machines = [node["Resources"] for node in live_nodes()]
    return {
        name
        for name, need in needs.items()
        if not any(runs_that_fit(machine, need) for machine in machines)
    }


def runs_when_grown(need: Mapping[str, float]) -> int:
    """`runs_at_once` when the autoscaler has started all machines that it may; 0 if unknown.

    Ray has no interface for it. `ray up` leaves its file on the head; other clusters set
    STUDY_ROOM.

    Raises:
        ClusterError: If STUDY_ROOM is not a number of runs.
    """
    if stated := os.environ.get("STUDY_ROOM"):
        if not stated.isdecimal():
            raise ClusterError(
                f"STUDY_ROOM={stated} is not a number: set it to the number of runs that the "
                "cluster holds at once when it has grown."
            )
        return int(stated)
    try:
        file = json.loads((Path.home() / GROWTH).read_text())
        types = [
            (runs_that_fit(node["resources"], need), node.get("max_workers", file["max_workers"]))
            for name, node in file["available_node_types"].items()
            if name != file["head_node_type"]
        ]
    except (OSError, ValueError, KeyError):  # no such file, or not one of Ray's
        return 0
    total, left = 0, file["max_workers"]
    for runs, most in sorted(types, reverse=True):
        count = min(most, left)
        total, left = total + runs * count, left - count
    return total


def check_fits(need: Mapping[str, float], *, local: bool) -> None:
    """Make sure that a run fits on a machine, now or once the cluster has grown.

    Args:
        need: What a run takes, by the name of the resource.
        local: Whether the cluster is this machine alone.

    Raises:
        ClusterError: If it fits on none.
    """
    grown = 0 if local else runs_when_grown(need)  # first: it raises if STUDY_ROOM is wrong
    if runs_at_once(need) or grown:
        return
    asked = ", ".join(f"{amount:g} {name}" for name, amount in need.items() if amount)
    has = [
        ", ".join(f"{node['Resources'].get(name, 0.0):g} {name}" for name in need)
        for node in live_nodes()
    ]
    where = "this machine has" if local else "its machines have"
    raise ClusterError(
        f"a run needs {asked}; {where} {'; '.join(dict.fromkeys(has))}. Change recipe.threads, "
        "gpus or needs, or add machines that have it. If some are still to join, wait for them "
        "(ray status)."
    )


def cores_of_largest(need: Mapping[str, float]) -> float:
    """Cores of the largest machine that holds a run; a run that takes them has it to itself."""
    cores = [
        n["Resources"].get("CPU", 0.0) for n in live_nodes() if runs_that_fit(n["Resources"], need)
    ]
    return max(cores, default=need["CPU"])


def live_nodes() -> list[dict[str, Any]]:
    """Ray's description of every machine that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def runs_that_fit(has: Mapping[str, float], need: Mapping[str, float]) -> int:
    """Number of runs that a machine holds at once."""
    # The small term undoes rounding: 1.0 / 0.1 must count as 10.
    return int(min(has.get(name, 0.0) / amount for name, amount in need.items() if amount) + 1e-9)


# --- of a study -------------------------------------------------------------------------------


class Capacity:
    """The number of runs that may be under way."""

    def __init__(self, need: Mapping[str, float], workers: int | None) -> None:
        """Look at the cluster.

        Args:
            need: What the smallest run takes.
            workers: A fixed number; None derives it from the cluster.
        """
        self._need, self._workers = need, workers
        self._grown = runs_when_grown(need)
        self._count, self._looked = 0, -math.inf

    def __call__(self) -> int:
        """The number now."""
        if self._workers:
            return self._workers
        if time.monotonic() - self._looked > REFRESH_SECONDS:
            self._looked = time.monotonic()
            # More than run at once, so that a free worker never waits for the driver.
            self._count = 2 * max(runs_at_once(self._need), self._grown) + 2
        return self._count


class UnschedulableStopper(tune.Stopper):  # type: ignore[misc]  # Ray has no types here
    """Ends a wave of which no run can be scheduled, since machines are gone.

    Tune itself would wait for ever. If the study is closed, it then ends. If it goes on, this
    helps a run that is to have a machine to itself: in the next wave it asks for the largest
    machine that there is now.
    """

    def __init__(self, progress: Progress, need: Mapping[str, float]) -> None:
        """Watch what is under way.

        Args:
            progress: Has what runs take, and whether the study is closed.
            need: What the smallest run takes.
        """
        self._progress, self._need = progress, need
        self._looked, self._since = -math.inf, math.inf

    def __call__(self, trial_id: str, result: Mapping[str, object]) -> bool:
        """Never end a single run for what it reports."""
        return False

    def stop_all(self) -> bool:
        """Whether to end the wave now."""
        now, progress = time.monotonic(), self._progress
        if now - self._looked < REFRESH_SECONDS:
            return False
        self._looked = now
        waiting = progress.resources
        if not waiting or len(unschedulable(waiting)) < len(waiting):
            self._since = math.inf
            return False
        self._since = min(self._since, now)
        if progress.closed:
            return now - self._since > CLOSED_SECONDS
        if now - self._since <= RETURN_SECONDS:
            return False
        return bool(progress.exclusive and runs_at_once(self._need))

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune pickles it beside its own state, which is never read back
