"""The driver's lock under concurrent queries."""

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
def polling(query: Callable[[], object], threads: int = 3) -> Iterator[None]:
    """Repeat a query while the block runs.

    Threads suffice, because `flock` locks belong to open files and not to processes.
    """
    over = threading.Event()
    errors: list[BaseException] = []

    def poll() -> None:
        try:
            while not over.is_set():
                query()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=poll) for _ in range(threads)]
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


def test_queries_do_not_make_a_starting_driver_fail(home):
    with polling(lambda: home.lock("locked").driver()):
        for _ in range(STARTS):
            with home.lock("locked").held():
                assert str(home.lock("locked").driver()).startswith("process ")


def test_queries_see_neither_an_earlier_driver_nor_a_half_written_one(home):
    ended, answers = [-1], []

    def query() -> None:
        before = ended[0]
        if (holder := home.lock("locked").driver()) is not None:
            number = re.match(r"study start-(\d+) \(process ", holder)
            answers.append((before, int(number[1]) if number else holder))

    with polling(query):
        for start in range(STARTS):
            with home.lock("locked").held(f"start-{start}"):
                pass
            ended[0] = start
    assert answers
    assert [pair for pair in answers if isinstance(pair[1], str) or pair[1] <= pair[0]] == []


def test_requests_to_stop_do_not_make_a_starting_driver_fail(home):
    with polling(lambda: home.lock("locked").request_stop()):
        for _ in range(STARTS):
            with home.lock("locked").held():
                pass


def test_a_request_to_stop_made_while_the_driver_starts_is_kept(home, monkeypatch):
    threads = []

    def slow_this_process(command: str) -> dict[str, object]:
        thread = threading.Thread(target=lambda: holders.append(home.lock("locked").request_stop()))
        thread.start()
        thread.join(0.2)
        threads.append(thread)
        return this_process(command)

    holders: list[str | None] = []
    monkeypatch.setattr("study.core.lock.this_process", slow_this_process)
    with home.lock("locked").held():
        threads[0].join()
        assert str(holders[0]).startswith("process ")
        assert home.lock("locked").stop_requested()


def test_the_lock_of_a_killed_driver_is_free(home):
    code = (
        "import sys, time, pathlib; from study.core.paths import Home\n"
        "with Home(pathlib.Path(sys.argv[1])).lock('locked').held():\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", code, str(home.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert f"process {other.pid} " in str(home.lock("locked").driver())
        with pytest.raises(StudyLockedError, match=f"is being run by process {other.pid} "):
            home.lock("locked").held().__enter__()
        os.kill(other.pid, signal.SIGKILL)
    assert home.lock("locked").driver() is None
    with home.lock("locked").held():
        assert f"process {os.getpid()} " in str(home.lock("locked").driver())
