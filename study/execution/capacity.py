"""How many runs the machines can hold, now and while a study runs."""

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

ROOM_SECONDS = 5.0  # between two looks at what the cluster holds
RETURN_SECONDS = 900.0  # a machine of an autoscaler's takes minutes to come back
CLOSED_SECONDS = 15.0  # until Tune has heard of all that came before, outcomes and losses


# --- what it can hold -------------------------------------------------------------------------


def amount(unit: str) -> float:
    """How much of a resource, such as `GPU`, the cluster has now."""
    return float(ray.cluster_resources().get(unit, 0.0))


def room(need: Mapping[str, float]) -> int:
    """Runs that the cluster's machines hold at once, as they are now.

    Args:
        need: What a run takes, by the name of the resource; a run is on one machine.
    """
    return sum(runs_that_fit(node["Resources"], need) for node in live_nodes())


def without_machine(takes: Mapping[str, Mapping[str, float]]) -> set[str]:
    """Whoever takes what no machine of the cluster has, as they are now.

    Args:
        takes: What each takes, by the name of the resource.
    """
    there = [node["Resources"] for node in live_nodes()]
    return {
        who for who, need in takes.items() if not any(runs_that_fit(has, need) for has in there)
    }


def room_when_grown(need: Mapping[str, float]) -> int:
    """The same once the autoscaler has started all that it may; 0 where that is not known.

    Ray itself does not say. `ray up` leaves its file on the head; elsewhere STUDY_ROOM says it.

    Raises:
        ClusterError: If STUDY_ROOM is no number of runs.
    """
    if told := os.environ.get("STUDY_ROOM"):
        if not told.isdecimal():
            raise ClusterError(
                f"STUDY_ROOM={told} is no number: name how many runs the cluster holds at once "
                "when it has grown."
            )
        return int(told)
    try:
        file = json.loads((Path.home() / GROWTH).read_text())
        kinds = [
            (runs_that_fit(kind["resources"], need), kind.get("max_workers", file["max_workers"]))
            for name, kind in file["available_node_types"].items()
            if name != file["head_node_type"]
        ]
    except (OSError, ValueError, KeyError):  # no such file, or not one of Ray's
        return 0
    found, left = 0, file["max_workers"]
    for runs, most in sorted(kinds, reverse=True):
        count = min(most, left)
        found, left = found + runs * count, left - count
    return found


def check_room(need: Mapping[str, float], *, alone: bool) -> None:
    """Make sure that a run fits somewhere, now or once the cluster has grown.

    Args:
        need: What a run takes, by the name of the resource.
        alone: Whether the cluster is this machine.

    Raises:
        ClusterError: If it fits nowhere.
    """
    grown = 0 if alone else room_when_grown(need)  # first: it says what is wrong with STUDY_ROOM
    if room(need) or grown:
        return
    asked = ", ".join(f"{amount:g} {name}" for name, amount in need.items() if amount)
    has = [
        ", ".join(f"{node['Resources'].get(name, 0.0):g} {name}" for name in need)
        for node in live_nodes()
    ]
    where = "this machine has" if alone else "its machines have"
    raise ClusterError(
        f"a run needs {asked}; {where} {'; '.join(dict.fromkeys(has))}. Change recipe.threads, "
        "gpus or needs, or add machines that have it; where some are still to join, wait for them "
        "(ray status)."
    )


def whole(need: Mapping[str, float]) -> float:
    """Cores of the largest machine that holds a run: only there are so many, and all are taken."""
    cores = [
        n["Resources"].get("CPU", 0.0) for n in live_nodes() if runs_that_fit(n["Resources"], need)
    ]
    return max(cores, default=need["CPU"])


def live_nodes() -> list[dict[str, Any]]:
    """Ray's word on every machine that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def runs_that_fit(has: Mapping[str, float], need: Mapping[str, float]) -> int:
    """How often a machine holds what a run takes."""
    return int(min(has.get(name, 0.0) / amount for name, amount in need.items() if amount) + 1e-9)


class Capacity:
    """How many runs may be under way."""

    def __init__(self, need: Mapping[str, float], workers: int | None) -> None:
        """Look at the cluster.

        Args:
            need: What the smallest run takes.
            workers: The number, where it is given; None goes by the cluster.
        """
        self._need, self._workers = need, workers
        self._grown = room_when_grown(need)
        self._count, self._looked = 0, -math.inf

    def __call__(self) -> int:
        """The number now."""
        if self._workers:
            return self._workers
        if time.monotonic() - self._looked > ROOM_SECONDS:
            self._looked = time.monotonic()
            # A few more than run at once, so that a free worker never waits for the driver.
            self._count = 2 * max(room(self._need), self._grown) + 2
        return self._count


class UnschedulableStopper(tune.Stopper):  # type: ignore[misc]  # Ray has no types here
    """Ends a wave whose runs all wait for machines that are gone; Tune alone never would.

    None of them is being done. A study that is to end then ends; in one that goes on, a run that is
    to have a machine to itself gets the largest that is there now, if one is.
    """

    def __init__(self, progress: Progress, need: Mapping[str, float]) -> None:
        """Watch what is under way.

        Args:
            progress: What runs take, and whether the study is to end.
            need: What the smallest run takes.
        """
        self._progress, self._need = progress, need
        self._looked, self._since = -math.inf, math.inf

    def __call__(self, trial_id: str, result: Mapping[str, object]) -> bool:
        """No single run is ended by what it reports."""
        return False

    def stop_all(self) -> bool:
        """Whether to end the wave now."""
        now, progress = time.monotonic(), self._progress
        if now - self._looked < ROOM_SECONDS:
            return False
        self._looked = now
        if not progress.takes or len(without_machine(progress.takes)) < len(progress.takes):
            self._since = math.inf
            return False
        self._since = min(self._since, now)
        if progress.closed:
            return now - self._since > CLOSED_SECONDS
        if now - self._since <= RETURN_SECONDS:
            return False
        return bool(progress.alone and room(self._need))

    def __getstate__(self) -> dict[str, object]:
        return {}
