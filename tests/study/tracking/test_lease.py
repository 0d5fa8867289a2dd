"""One driver where several machines share a store: whoever comes first, dies, or comes back."""

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
    BEAT_SECONDS,
    DRIVER,
    SILENT_BEATS,
    SURE_BEATS,
    Lease,
    ask_to_stop,
    driver,
)
from study.tracking.outbox import Outbox
from study.tracking.store import Store, StoreGoneError
from tests.study.tracking.conftest import entry

BEAT = 0.3


class Deaf:
    """Nothing to stop."""

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


def lease(store: Store, experiment: str, stop: Deaf | None = None) -> Lease:
    return Lease(store, experiment, "shared", stop=stop or Deaf(), beat=BEAT)


def killed(held: Lease) -> None:
    """As `kill -9` leaves it: no more beats, and its tag is there."""
    held._over.set()
    held._thread.join()


def tags(store: Store, experiment: str) -> list[str]:
    return [t for t in store.client.get_experiment(experiment).tags if t.startswith(DRIVER)]


def test_the_second_is_told_who_drives(store, experiment):
    first = lease(store, experiment)
    with pytest.raises(
        StudyLockedError, match=r"study 'shared' is being run by process \d+ on .*, since"
    ):
        lease(store, experiment)
    first.check()
    assert len(tags(store, experiment)) == 1
    first.release()


def test_after_a_release_nobody_waits(store, experiment):
    lease(store, experiment).release()
    assert tags(store, experiment) == []
    began = time.monotonic()
    lease(store, experiment).release()
    assert time.monotonic() - began < 2 * BEAT + 1


def test_a_killed_driver_is_taken_over_once_it_was_silent_for_long(store, experiment, caplog):
    killed(lease(store, experiment))
    began = time.monotonic()
    second = lease(store, experiment)
    assert time.monotonic() - began > SILENT_BEATS * BEAT
    assert "Waiting to see whether process" in caplog.text
    assert "this driver takes over" in caplog.text
    assert len(tags(store, experiment)) == 1
    second.release()


def test_of_many_at_once_one_drives(store, experiment):
    """Also where a killed one is in front of all."""
    killed(lease(store, experiment))
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


def test_a_driver_that_was_taken_for_gone_stops(store, experiment, caplog):
    """It slept for longer than others wait, say with its laptop."""
    stop = Deaf()
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


def test_of_two_that_both_live_the_later_one_stops(store, experiment):
    """The earlier one was taken for gone just before it left a sign of life."""
    stop = Deaf()
    later = lease(store, experiment, stop)
    earlier = json.dumps({**later._me, "ticket": 1})
    store.client.set_experiment_tag(experiment, DRIVER + "0", earlier)
    assert stop.asked.wait(10)
    with pytest.raises(StudyLockedError):
        later.check()
    later.release()


def test_who_cannot_leave_signs_of_life_writes_nothing(store, experiment, home: Home):
    held = lease(store, experiment)
    held.check()
    file = home.root / "mlflow.db"
    file.rename(Path(f"{file}.away"))
    time.sleep(3 * BEAT)
    with pytest.raises(StoreGoneError, match="cannot be told that this one lives"):
        held.check()
    Path(f"{file}.away").rename(file)
    time.sleep(3 * BEAT)
    held.check()
    held.release()


def test_asked_to_stop_from_elsewhere(store, experiment, home: Home):
    assert ask_to_stop(home, "shared") is None
    assert driver(home, "shared") is None
    stop = Deaf()
    held = lease(store, experiment, stop)
    assert "process" in str(ask_to_stop(home, "shared"))
    assert "last seen" in str(driver(home, "shared"))
    assert stop.asked.wait(10)
    held.check()
    held.release()
    with pytest.raises(LookupError, match="no study 'other'"):
        ask_to_stop(home, "other")


def test_a_stop_is_not_meant_for_the_next_driver(store, experiment, home: Home):
    first = lease(store, experiment)
    ask_to_stop(home, "shared")
    first.release()
    stop = Deaf()
    second = lease(store, experiment, stop)
    assert not stop.asked.wait(3 * BEAT)
    second.release()


@pytest.mark.parametrize("text", ["", "[]", '{"ticket": "first"}', "null"])
def test_what_reads_as_no_driver_is_none(store, experiment, text):
    store.client.set_experiment_tag(experiment, DRIVER + "x", text)
    lease(store, experiment).release()


def test_nobody_takes_over_while_a_request_may_be_under_way(store):
    """A driver asks just before it may no longer, and the answer comes just before its timeout."""
    timeout = float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    assert timeout < (SILENT_BEATS - SURE_BEATS) * BEAT_SECONDS


def test_who_is_not_sure_to_be_done_lets_the_next_one_wait(store, experiment):
    first = lease(store, experiment)
    first.lapse()
    with pytest.raises(StudyLockedError, match="was given back"):
        first.check()
    assert len(tags(store, experiment)) == 1
    began = time.monotonic()
    lease(store, experiment).release()
    assert time.monotonic() - began > SILENT_BEATS * BEAT


def test_who_gave_the_study_back_writes_nothing(store, experiment):
    first = lease(store, experiment)
    first.release()
    with pytest.raises(StudyLockedError, match="was given back"):
        first.check()


def test_each_request_of_a_run_asks_for_leave(store, experiment, study, tmp_path):
    run, asked, box = study.runs()[0], [], Outbox(tmp_path / "outbox")
    box.put(entry(run), b"predictions")
    ledger = Experiment(store, experiment, lambda: asked.append(0))
    parent = ledger.cell((run.cell.key, "final"), {}, {"a": "b"}, name="cell")
    assert len(asked) == 2
    asked.clear()
    ledger.send(*box.get(run.key), parent)
    assert len(asked) == 5  # made, described, two files, ended
