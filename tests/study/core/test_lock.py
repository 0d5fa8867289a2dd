"""Who may drive a study, where many ask at once."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from study.core.lock import StudyLockedError, this_process
from study.core.paths import Home

STARTS = 100


@contextmanager
def asking(question: Callable[[], object], threads: int = 3) -> Iterator[None]:
    """Ask again and again meanwhile; a file lock is held by an open file, not by a process."""
    over = threading.Event()
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            while not over.is_set():
                question()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in started:
            thread.join()
    assert errors == []


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def test_who_asks_who_drives_keeps_nobody_from_starting(home):
    with asking(lambda: home.lock("asked").driver()):
        for _ in range(STARTS):
            with home.lock("asked").held():
                assert str(home.lock("asked").driver()).startswith("process ")


def test_who_asks_hears_of_no_earlier_driver_and_of_none_half_written(home):
    ended, heard = [-1], []

    def ask() -> None:
        before = ended[0]
        if (holder := home.lock("asked").driver()) is not None:
            number = re.match(r"study start-(\d+) \(process ", holder)
            heard.append((before, int(number[1]) if number else holder))

    with asking(ask):
        for start in range(STARTS):
            with home.lock("asked").held(f"start-{start}"):
                pass
            ended[0] = start
    assert heard
    assert [pair for pair in heard if isinstance(pair[1], str) or pair[1] <= pair[0]] == []


def test_who_asks_a_driver_to_stop_keeps_nobody_from_starting(home):
    with asking(lambda: home.lock("asked").request_stop()):
        for _ in range(STARTS):
            with home.lock("asked").held():
                pass


def test_a_driver_that_just_starts_does_not_forget_a_request_to_stop(home, monkeypatch):
    asked = []

    def slow(command: str) -> dict[str, object]:
        asker = threading.Thread(target=lambda: named.append(home.lock("asked").request_stop()))
        asker.start()
        asker.join(0.2)
        asked.append(asker)
        return this_process(command)

    named: list[str | None] = []
    monkeypatch.setattr("study.core.lock.this_process", slow)
    with home.lock("asked").held():
        asked[0].join()
        assert str(named[0]).startswith("process ")
        assert home.lock("asked").stop_requested()


def test_a_killed_driver_holds_nothing(home):
    code = (
        "import sys, time, pathlib; from study.core.paths import Home\n"
        "with Home(pathlib.Path(sys.argv[1])).lock('asked').held():\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", code, str(home.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert f"process {other.pid} " in str(home.lock("asked").driver())
        with pytest.raises(StudyLockedError, match=f"is being run by process {other.pid} "):
            home.lock("asked").held().__enter__()
        os.kill(other.pid, signal.SIGKILL)
    assert home.lock("asked").driver() is None
    with home.lock("asked").held():
        assert f"process {os.getpid()} " in str(home.lock("asked").driver())
