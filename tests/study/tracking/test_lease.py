"""The lease: one driver where several machines share a store."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from study.core.lock import StudyLockedError
from study.core.paths import Home
from study.tracking.experiment import Experiment
from study.tracking.lease import (
    HEARTBEAT_SECONDS,
    SILENT_HEARTBEATS,
    SURE_HEARTBEATS,
    Lease,
    driver,
    request_stop,
)
from study.tracking.outbox import Outbox
from study.tracking.schema import DRIVER
from study.tracking.store import Store, StoreGoneError
from tests.study.tracking.conftest import entry

BEAT = 0.3


class Stop:
    """Notes that a stop was requested."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self) -> None:
        self.asked.set()


@pytest.fixture
def store(home: Home) -> Store:
    return Store(home.uri, home.artifacts)


@pytest.fixture
def experiment(store: Store) -> str:
    return store.experiment("shared")


def lease(store: Store, experiment: str, stop: Stop | None = None) -> Lease:
    return Lease(store, experiment, "shared", stop=stop or Stop(), interval=BEAT)


def kill(held: Lease) -> None:
    """Leave what `kill -9` leaves: no more heartbeats, and the tag."""
    held._over.set()
    held._thread.join()


def tags(store: Store, experiment: str) -> list[str]:
    return [t for t in store.client.get_experiment(experiment).tags if t.startswith(DRIVER)]


def test_a_second_driver_is_refused_and_told_the_holder(store, experiment):
    first = lease(store, experiment)
    with pytest.raises(
        StudyLockedError, match=r"study 'shared' is being run by process \d+ on .*, since"
    ):
        lease(store, experiment)
    first.check()
    assert len(tags(store, experiment)) == 1
    first.release()


def test_after_a_release_the_next_driver_starts_at_once(store, experiment):
    lease(store, experiment).release()
    assert tags(store, experiment) == []
    began = time.monotonic()
    lease(store, experiment).release()
    assert time.monotonic() - began < 2 * BEAT + 1


def test_a_killed_driver_is_replaced_after_its_silence(store, experiment, caplog):
    kill(lease(store, experiment))
    began = time.monotonic()
    second = lease(store, experiment)
    assert time.monotonic() - began > SILENT_HEARTBEATS * BEAT
    assert "Waiting to see whether process" in caplog.text
    assert "this driver takes over" in caplog.text
    assert len(tags(store, experiment)) == 1
    second.release()


def test_of_many_at_once_one_drives(store, experiment):
    """With a killed one in front of all."""
    kill(lease(store, experiment))
    won: list[Lease] = []
    held: list[StudyLockedError] = []
    at_once = threading.Barrier(6)

    def come() -> None:
        at_once.wait()
        try:
            won.append(lease(store, experiment))
        except StudyLockedError as error:
            held.append(error)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(held)) == (1, 5)
    time.sleep(3 * BEAT)
    won[0].check()
    assert len(tags(store, experiment)) == 1
    won[0].release()


def test_a_driver_that_was_replaced_stops(store, experiment, caplog):
    """For instance after its laptop slept for longer than others wait."""
    stop = Stop()
    first = lease(store, experiment, stop)
    store.client.delete_experiment_tag(experiment, tags(store, experiment)[0])
    second = lease(store, experiment)
    assert stop.asked.wait(10)
    with pytest.raises(
        StudyLockedError, match=r"was taken over by process .*this driver has stopped"
    ):
        first.check()
    first.release()
    second.check()
    second.release()


def test_of_two_live_drivers_the_later_one_stops(store, experiment):
    """The earlier one was removed as gone just before a heartbeat of its own."""
    stop = Stop()
    later = lease(store, experiment, stop)
    earlier = json.dumps({**later._own, "ticket": 1})
    store.client.set_experiment_tag(experiment, DRIVER + "0", earlier)
    assert stop.asked.wait(10)
    with pytest.raises(StudyLockedError):
        later.check()
    later.release()


def test_a_driver_that_cannot_renew_its_lease_writes_nothing(store, experiment, home: Home):
    held = lease(store, experiment)
    held.check()
    file = home.root / "mlflow.db"
    file.rename(Path(f"{file}.away"))
    time.sleep(3 * BEAT)
    with pytest.raises(StoreGoneError, match="the lease on the study cannot be renewed"):
        held.check()
    Path(f"{file}.away").rename(file)
    time.sleep(3 * BEAT)
    held.check()
    held.release()


def test_a_stop_requested_from_another_machine(store, experiment, home: Home):
    assert request_stop(home, "shared") is None
    assert driver(home, "shared") is None
    stop = Stop()
    held = lease(store, experiment, stop)
    assert "process" in str(request_stop(home, "shared"))
    assert "last seen" in str(driver(home, "shared"))
    assert stop.asked.wait(10)
    held.check()
    held.release()
    with pytest.raises(LookupError, match="no study 'other'"):
        request_stop(home, "other")


def test_a_stop_request_does_not_stop_the_next_driver(store, experiment, home: Home):
    first = lease(store, experiment)
    request_stop(home, "shared")
    first.release()
    stop = Stop()
    second = lease(store, experiment, stop)
    assert not stop.asked.wait(3 * BEAT)
    second.release()


@pytest.mark.parametrize("text", ["", "[]", '{"ticket": "first"}', "null"])
def test_malformed_driver_tags_are_ignored(store, experiment, text):
    store.client.set_experiment_tag(experiment, DRIVER + "x", text)
    lease(store, experiment).release()


def test_no_driver_takes_over_while_a_request_may_be_under_way(store):
    """At worst it is sent just before the lease expires, and answered just before its timeout."""
    timeout = float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    assert timeout < (SILENT_HEARTBEATS - SURE_HEARTBEATS) * HEARTBEAT_SECONDS


def test_after_a_lapse_the_next_driver_waits(store, experiment):
    first = lease(store, experiment)
    first.lapse()
    with pytest.raises(StudyLockedError, match="was given back"):
        first.check()
    assert len(tags(store, experiment)) == 1
    began = time.monotonic()
    lease(store, experiment).release()
    assert time.monotonic() - began > SILENT_HEARTBEATS * BEAT


def test_after_a_release_the_driver_writes_nothing(store, experiment):
    first = lease(store, experiment)
    first.release()
    with pytest.raises(StudyLockedError, match="was given back"):
        first.check()


def test_each_request_of_a_run_checks_the_lease(store, experiment, study, tmp_path):
    run, asked, box = study.runs()[0], [], Outbox(tmp_path / "outbox")
    box.put(entry(run), b"predictions")
    written = Experiment(store, experiment, lambda: asked.append(0))
    parent = written.parent((run.cell.key, "final"), {}, {"a": "b"}, name="cell")
    assert len(asked) == 2
    asked.clear()
    written.send(*box.get(run.key), parent)
    assert len(asked) == 5  # made, described, two files, ended
