"""Who drives a study, where drivers on several machines share a store.

Each driver has a tag of its own on the study's experiment and writes no other's: a bakery. Who
comes takes a ticket above all that it sees; the lowest ticket drives. Two that come at once cannot
both be first, however slow the store is. No clocks are compared: a driver in front counts as gone
when its tag has not changed for a while by the clock of the one that waits.
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
from study.tracking.store import TROUBLE, Store, StoreGoneError

log = logging.getLogger(__name__)

# A driver asks for leave before each request and waits 30 s for its answer, so what it asked for
# may still happen 30 s after it last had leave; 10 s more are for a server that begins late.
BEAT_SECONDS = 10.0
SURE_BEATS = 2.0  # a driver whose last beat is older writes nothing,
SILENT_BEATS = 6.0  # and another waits for longer before it takes over
# Goes on while a laptop sleeps, where the system has such a clock. Who waits for a sign of life
# counts by the other one: it was not looking while it slept.
AWAKE_OR_NOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
DRIVER = "study.driver."  # and an id: the tag of a driver
STOP = "study.stop"  # the id of the driver that is asked to stop

Driver = dict[str, Any]
FIELDS = {
    "command": str,
    "pid": int,
    "host": str,
    "since": float,
    "ticket": int,  # 0 while it is being drawn
    "beat": int,
    "seen": float,  # when that was, by the driver's own clock; for people
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
        beat: float = BEAT_SECONDS,
    ) -> None:
        """Take the study, after waiting to see whether a driver that is in front still lives.

        Args:
            store: Where the study is tracked.
            experiment: Its experiment.
            study: Its name.
            command: Of `study`, for those who are told who holds it.
            stop: Called when somebody asks for it, or when the study was taken over.
            beat: Seconds between signs of life; the same for all drivers.

        Raises:
            StudyLockedError: If another driver holds the study.
        """
        self.lost: str | None = None
        self._store, self._experiment, self._study = store, experiment, study
        self._stop, self._pause = stop, beat
        self._id = uuid.uuid4().hex[:12]
        self._me: Driver = {**this_process(command), "ticket": 0, "beat": 0}
        self._over = threading.Event()
        try:
            self._beat()
            there = _drivers(_tags(store, experiment)).values()
            self._me["ticket"] = 1 + max(other["ticket"] for other in there)
            self._beat()
            self._wait_in_line()
        except BaseException:
            self._leave()
            raise
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that no other driver can have taken over.

        Raises:
            StudyLockedError: If one has.
            StoreGoneError: If that cannot be told at present.
        """
        if self.lost is not None:
            raise StudyLockedError(self.lost)
        if not self._is_sure():
            raise StoreGoneError("other drivers cannot be told that this one lives")

    def release(self) -> None:
        """Let the next driver start without waiting."""
        self.lapse()
        if not self._thread.is_alive():  # else its last sign of life could come after this
            self._leave()

    def lapse(self) -> None:
        """Give no more signs of life: the next driver waits until what was asked for has happened.

        For who cannot be certain that nothing of theirs is still on its way to the store.
        """
        self.lost = self.lost or f"study {self._study!r} was given back"
        self._over.set()
        self._thread.join(self._pause)

    def _wait_in_line(self) -> None:
        seen: dict[str, tuple[int, float]] = {}  # each driver's beat, and when it was first seen
        while True:
            asked = time.monotonic()
            try:
                before = self._in_front(_tags(self._store, self._experiment))
                if _now() - self._sure > self._pause:
                    self._beat()
            except TROUBLE:  # over the minutes here, an answer may well be lost
                if not self._is_sure():
                    raise
                time.sleep(self._pause / 20)
                continue
            if not before:
                return
            for name, other in before.items():
                if name not in seen:
                    log.warning("Waiting to see whether %s still lives.", describe_process(other))
                now = time.monotonic()
                beat, since = seen.setdefault(name, (other["beat"], now))
                if other["beat"] != beat and other["ticket"]:
                    raise StudyLockedError(
                        f"study {self._study!r} is being run by {describe_process(other)}"
                    )
                if other["beat"] != beat:  # it is just drawing its ticket
                    seen[name] = other["beat"], now
                elif asked - since > SILENT_BEATS * self._pause:
                    log.warning(
                        "No sign of life from %s; this driver takes over.", describe_process(other)
                    )
                    _erase(self._store, self._experiment, name)
            time.sleep(self._pause / 20)

    def _is_sure(self) -> bool:
        return _now() - self._sure <= SURE_BEATS * self._pause

    def _in_front(self, tags: Mapping[str, str]) -> dict[str, Driver]:
        """Drivers that came before, or may have.

        Raises:
            StudyLockedError: If another driver has taken this one for gone.
        """
        there = _drivers(tags)
        mine = self._me["ticket"], self._id
        others = {name: other for name, other in there.items() if name != self._id}
        if self._id not in there:
            by = next((describe_process(other) for other in others.values()), "another driver")
            raise StudyLockedError(f"study {self._study!r} was taken over by {by}")
        return {
            name: other
            for name, other in others.items()
            if not other["ticket"] or (other["ticket"], name) < mine
        }

    def _live(self) -> None:
        while not self._over.wait(self._pause):
            try:
                tags = _tags(self._store, self._experiment)
                for other in self._in_front(tags).values():
                    if other["ticket"]:  # taken for gone, it came back
                        raise StudyLockedError(
                            f"study {self._study!r} was taken over by {describe_process(other)}"
                        )
                self._beat()
                if tags.get(STOP) == self._id:
                    self._stop()
            except StudyLockedError as held:
                self.lost = f"{held}; this driver has stopped"
                log.error("%s.", self.lost.capitalize())
                self._stop()
                return
            except TROUBLE:
                continue  # `check` tells when that goes on for too long

    def _beat(self) -> None:
        began = _now()
        self._me |= {"beat": self._me["beat"] + 1, "seen": time.time()}
        self._store.check()
        self._store.client.set_experiment_tag(
            self._experiment, DRIVER + self._id, json.dumps(self._me)
        )
        self._sure = began

    def _leave(self) -> None:
        with suppress(*TROUBLE):  # the next driver then waits to see that this one is gone
            _erase(self._store, self._experiment, self._id)


@contextmanager
def alone(home: Home, store: Store, study: str, *, command: str) -> Iterator[Callable[[], object]]:
    """Keep drivers away from a study while its files and runs are put in order.

    Yields:
        To be called before each write; it raises as `Lease.check` does.

    Raises:
        StudyLockedError: If one is at work.
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
    """Who drives a study in a shared store, with the last sign of life.

    A driver that was killed is still told of, until the next one comes.

    Raises:
        LookupError: If there is no such study.
        StoreGoneError: If the store cannot be used.
    """
    _, _, first = _first(home, study)
    return _seen(first) if first else None


def ask_to_stop(home: Home, study: str) -> str | None:
    """Ask the driver of a study in a shared store to stop, which it does within a beat.

    Returns:
        Who drives it, with the last sign of life; None where nobody does.

    Raises:
        LookupError: If there is no such study.
        StoreGoneError: If the store cannot be used.
    """
    store, experiment, first = _first(home, study)
    if first is None:
        return None
    store.client.set_experiment_tag(experiment, STOP, first["id"])
    return _seen(first)


def _first(home: Home, study: str) -> tuple[Store, str, Driver | None]:
    store = Store(home.uri, home.artifacts)
    found = store.client.get_experiment_by_name(study)
    if found is None:
        raise LookupError(f"no study {study!r} at {without_password(home.uri)}")
    queue = [
        (other["ticket"], name, other)
        for name, other in _drivers(found.tags).items()
        if other["ticket"]
    ]
    _, name, first = min(queue, key=lambda each: each[:2], default=(0, "", None))
    return store, found.experiment_id, first and {**first, "id": name}


def _seen(driver: Driver) -> str:
    return f"{describe_process(driver)} (last seen {clock(driver['seen'])})"


def _now() -> float:
    return time.clock_gettime(AWAKE_OR_NOT)


def _tags(store: Store, experiment: str) -> Mapping[str, str]:
    tags: Mapping[str, str] = store.client.get_experiment(experiment).tags
    return tags


def _drivers(tags: Mapping[str, str]) -> dict[str, Driver]:
    """Drivers by id, those that were killed included; what reads as none is none."""
    found = {}
    for tag, text in tags.items():
        if tag.startswith(DRIVER):
            with suppress(ValueError, KeyError, TypeError):
                data = {"command": "run", **json.loads(text)}  # earlier versions did not say
                found[tag.removeprefix(DRIVER)] = {
                    name: kind(data[name]) for name, kind in FIELDS.items()
                }
    return found


def _erase(store: Store, experiment: str, name: str) -> None:
    try:
        store.client.delete_experiment_tag(experiment, DRIVER + name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
