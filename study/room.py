"""What a cluster has room for while a study runs: machines come and go meanwhile."""

import math
import time
from collections.abc import Mapping

from ray import tune

from study import cluster
from study.feed import Progress

ROOM_SECONDS = 5.0  # between two looks at what the cluster holds
RETURN_SECONDS = 900.0  # a machine of an autoscaler's takes minutes to come back
CLOSED_SECONDS = 15.0  # until Tune has heard of all that came before, outcomes and losses


class Room:
    """How many runs may be under way."""

    def __init__(self, need: Mapping[str, float], workers: int | None) -> None:
        """Look at the cluster.

        Args:
            need: What the smallest run takes.
            workers: The number, where it is given; None goes by the cluster.
        """
        self._need, self._workers = need, workers
        self._grown = cluster.room_when_grown(need)
        self._count, self._looked = 0, -math.inf

    def __call__(self) -> int:
        """The number now."""
        if self._workers:
            return self._workers
        if time.monotonic() - self._looked > ROOM_SECONDS:
            self._looked = time.monotonic()
            # A few more than run at once, so that a free worker never waits for the driver.
            self._count = 2 * max(cluster.room(self._need), self._grown) + 2
        return self._count


class Stranded(tune.Stopper):  # type: ignore[misc]  # Ray has no types here
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
        if not progress.takes or len(cluster.without_machine(progress.takes)) < len(progress.takes):
            self._since = math.inf
            return False
        self._since = min(self._since, now)
        if progress.closed:
            return now - self._since > CLOSED_SECONDS
        if now - self._since <= RETURN_SECONDS:
            return False
        return bool(progress.alone and cluster.room(self._need))

    def __getstate__(self) -> dict[str, object]:
        return {}
