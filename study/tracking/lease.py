"""The lease on a study: which driver may write where drivers on several machines share a store.

MLflow has no compare-and-set, so this is Lamport's bakery algorithm. Each driver has a tag of its
own on the study's experiment, and writes no other driver's. A driver that arrives takes a ticket
higher than all that it sees; the lowest ticket drives. No clocks of different machines are
compared: a driver counts as gone when its tag has not changed for a while, by the clock of the one
that waits.
Source: Lamport (1974), "A New Solution of Dijkstra's Concurrent Programming Problem".
Differs: a driver in front that gives no heartbeat is removed; one whose heartbeat changes is not
waited for, the new driver is refused instead.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from mlflow.exceptions import MlflowException

from study.core.lock import StudyLockedError, clock, describe_process, this_process
from study.core.paths import Home, without_password
from study.tracking.schema import DRIVER, STOP
from study.tracking.store import TROUBLE, Store, StoreGoneError

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
# The times must be safe for a request under way. A driver checks its lease before each request and
# waits 30 s for the response, so a request can still take effect 30 s after the last good check;
# another 10 s are for a server that begins late. 2 x 10 s + 30 s + 10 s = 6 x 10 s.
SURE_HEARTBEATS = 2.0  # intervals since its last heartbeat after which a driver writes nothing
SILENT_HEARTBEATS = 6.0  # intervals without a heartbeat after which another driver takes over
# A driver's own clock must go on while its laptop sleeps, or it would wake up too sure of itself;
# CLOCK_MONOTONIC stops on Linux. A driver that waits for another's heartbeat uses CLOCK_MONOTONIC:
# it could not have seen one while it slept.
OWN_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Driver = dict[str, Any]
FIELDS = {
    "command": str,
    "pid": int,
    "host": str,
    "since": float,
    "ticket": int,  # 0 while it is being chosen
    "beat": int,  # number of heartbeats
    "seen": float,  # time of the last one by the driver's own clock; only for display
}


class Lease:
    """A study held by this process.

    Attributes:
        lost: Why the study is no longer held; None while it is.
    """

    def __init__(
        self,
        store: Store,
        experiment: str,
        study: str,
        *,
        command: str = "run",
        stop: Callable[[], object],
        interval: float = HEARTBEAT_SECONDS,
    ) -> None:
        """Take the study, after waiting to see whether a driver in front is alive.

        Args:
            store: The study's.
            experiment: Id of its experiment.
            study: Its name.
            command: Subcommand of `study` that holds it, for messages to others.
            stop: Called when a stop is requested, or when another driver has taken over.
            interval: Seconds between heartbeats; the same for all drivers.

        Raises:
            StudyLockedError: If another driver holds the study.
        """
        self.lost: str | None = None
        self._store, self._experiment, self._study = store, experiment, study
        self._stop, self._interval = stop, interval
        self._id = uuid.uuid4().hex[:12]
        self._own: Driver = {**this_process(command), "ticket": 0, "beat": 0}
        self._over = threading.Event()
        try:
            # Ticket 0 says "choosing". It must be visible before the others' tickets are read:
            # whoever sees it waits for the choice, so two drivers that arrive at once cannot miss
            # each other, however slow the store is.
            self._heartbeat()
            drivers = _drivers(_tags(store, experiment)).values()
            self._own["ticket"] = 1 + max(driver["ticket"] for driver in drivers)
            self._heartbeat()
            self._wait_for_turn()
        except BaseException:
            self._leave()
            raise
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that no other driver can have taken over.

        Raises:
            StudyLockedError: If one has.
            StoreGoneError: If that is unknown at present.
        """
        if self.lost is not None:
            raise StudyLockedError(self.lost)
        if not self._is_sure():
            raise StoreGoneError("the lease on the study cannot be renewed")

    def release(self) -> None:
        """Give the study back; the next driver starts without waiting."""
        self.lapse()
        # A heartbeat that is still under way would bring the tag back after its removal.
        if not self._thread.is_alive():
            self._leave()

    def lapse(self) -> None:
        """Stop the heartbeat but leave the tag, so that the next driver waits its full time.

        For a driver that may still have a request on its way to the store.
        """
        self.lost = self.lost or f"study {self._study!r} was given back"
        self._over.set()
        self._thread.join(self._interval)

    def _wait_for_turn(self) -> None:
        """Return when no driver is in front.

        A driver in front whose heartbeat changes is alive, and this one is refused. One that is
        silent for too long is removed.
        """
        watched: dict[str, tuple[int, float]] = {}  # each driver's beat, and when it was first seen
        while True:
            asked = time.monotonic()
            try:
                in_front = self._in_front(_tags(self._store, self._experiment))
                if _now() - self._sure_at > self._interval:  # others must not take us for gone
                    self._heartbeat()
            except TROUBLE:  # in the minutes spent here a response may well be lost
                if not self._is_sure():
                    raise
                time.sleep(self._interval / 20)
                continue
            if not in_front:
                return
            for name, other in in_front.items():
                if name not in watched:
                    log.warning("Waiting to see whether %s is alive.", describe_process(other))
                now = time.monotonic()
                beat, since = watched.setdefault(name, (other["beat"], now))
                if other["beat"] != beat and other["ticket"]:
                    raise StudyLockedError(
                        f"study {self._study!r} is being run by {describe_process(other)}"
                    )
                if other["beat"] != beat:  # still choosing its ticket: it may end up behind us
                    watched[name] = other["beat"], now
                # From before the request: its response may be as old as that.
                elif asked - since > SILENT_HEARTBEATS * self._interval:
                    log.warning(
                        "No heartbeat from %s; this driver takes over.", describe_process(other)
                    )
                    _erase(self._store, self._experiment, name)
            time.sleep(self._interval / 20)

    def _is_sure(self) -> bool:
        return _now() - self._sure_at <= SURE_HEARTBEATS * self._interval

    def _in_front(self, tags: Mapping[str, str]) -> dict[str, Driver]:
        """Drivers with a lower ticket, and those that are still choosing one.

        Raises:
            StudyLockedError: If another driver has removed this one's tag.
        """
        drivers = _drivers(tags)
        own = self._own["ticket"], self._id  # ids break ties: two drivers can choose one ticket
        others = {name: other for name, other in drivers.items() if name != self._id}
        if self._id not in drivers:
            by = next((describe_process(other) for other in others.values()), "another driver")
            raise StudyLockedError(f"study {self._study!r} was taken over by {by}")
        return {
            name: other
            for name, other in others.items()
            if not other["ticket"] or (other["ticket"], name) < own
        }

    def _keep(self) -> None:
        """Renew the lease until it is released or lost, and pass on requests to stop."""
        while not self._over.wait(self._interval):
            try:
                tags = _tags(self._store, self._experiment)
                for other in self._in_front(tags).values():
                    # One that is choosing will end up behind. One with a lower ticket was removed
                    # as gone just before a heartbeat of its own brought its tag back.
                    if other["ticket"]:
                        raise StudyLockedError(
                            f"study {self._study!r} was taken over by {describe_process(other)}"
                        )
                self._heartbeat()
                if tags.get(STOP) == self._id:
                    self._stop()
            except StudyLockedError as error:
                self.lost = f"{error}; this driver has stopped"
                log.error("%s.", self.lost.capitalize())
                self._stop()
                return
            except TROUBLE:
                continue  # `check` reports it if it lasts

    def _heartbeat(self) -> None:
        # Counted from before the request: its effect on the others may be as old as that.
        began = _now()
        self._own |= {"beat": self._own["beat"] + 1, "seen": time.time()}
        self._store.check()
        self._store.client.set_experiment_tag(
            self._experiment, DRIVER + self._id, json.dumps(self._own)
        )
        self._sure_at = began

    def _leave(self) -> None:
        with suppress(*TROUBLE):  # the next driver then waits to see that this one is gone
            _erase(self._store, self._experiment, self._id)


@contextmanager
def exclusive(
    home: Home, store: Store, study: str, *, command: str
) -> Iterator[Callable[[], object]]:
    """Hold a study without running it, to remove files and runs.

    Yields:
        A function to call before each write; it raises what `Lease.check` raises.

    Raises:
        StudyLockedError: If a driver holds the study.
    """
    with home.lock(study).held(command):
        if not home.shared:
            yield lambda: None  # the lock lasts as long as this process
            return
        experiment = store.experiment(study)
        lease = Lease(store, experiment, study, command=command, stop=lambda: None)
        try:
            yield lease.check
        finally:
            lease.release()


def driver(home: Home, study: str) -> str | None:
    """Describe the driver of a study in a shared store, with the time of its last heartbeat.

    A driver that was killed is included until the next one starts.

    Raises:
        LookupError: If there is no such study.
        StoreGoneError: If the store cannot be used.
    """
    _, _, first = _first(home, study)
    return _with_last_heartbeat(first) if first else None


def request_stop(home: Home, study: str) -> str | None:
    """Ask the driver of a study in a shared store to stop, which it does at its next heartbeat.

    Returns:
        The driver, with the time of its last heartbeat; None if there is none.

    Raises:
        LookupError: If there is no such study.
        StoreGoneError: If the store cannot be used.
    """
    store, experiment, first = _first(home, study)
    if first is None:
        return None
    store.client.set_experiment_tag(experiment, STOP, first["id"])
    return _with_last_heartbeat(first)


def _first(home: Home, study: str) -> tuple[Store, str, Driver | None]:
    """A study's store, the id of its experiment, and the driver with the lowest ticket."""
    store = Store(home.uri, home.artifacts)
    experiment = store.client.get_experiment_by_name(study)
    if experiment is None:
        raise LookupError(f"no study {study!r} at {without_password(home.uri)}")
    queue = [
        (driver["ticket"], name, driver)
        for name, driver in _drivers(experiment.tags).items()
        if driver["ticket"]
    ]
    _, name, first = min(queue, key=lambda entry: entry[:2], default=(0, "", None))
    return store, experiment.experiment_id, first and {**first, "id": name}


def _with_last_heartbeat(driver: Driver) -> str:
    return f"{describe_process(driver)} (last seen {clock(driver['seen'])})"


def _now() -> float:
    return time.clock_gettime(OWN_CLOCK)


def _tags(store: Store, experiment: str) -> Mapping[str, str]:
    tags: Mapping[str, str] = store.client.get_experiment(experiment).tags
    return tags


def _drivers(tags: Mapping[str, str]) -> dict[str, Driver]:
    """Drivers by id, including those that were killed; malformed tags are ignored."""
    drivers = {}
    for tag, text in tags.items():
        if tag.startswith(DRIVER):
            with suppress(ValueError, KeyError, TypeError):
                data = {"command": "run", **json.loads(text)}  # earlier versions had no command
                drivers[tag.removeprefix(DRIVER)] = {
                    name: kind(data[name]) for name, kind in FIELDS.items()
                }
    return drivers


def _erase(store: Store, experiment: str, name: str) -> None:
    try:
        store.client.delete_experiment_tag(experiment, DRIVER + name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
