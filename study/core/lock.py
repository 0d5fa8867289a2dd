"""A file lock that keeps two drivers from running one study, and requests to stop."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class StudyLockedError(RuntimeError):
    """Another process holds the study."""


@dataclass(frozen=True)
class StudyLock:
    """The lock file that one driver of a study holds, and requests to that driver to stop.

    The operating system tells whether a file is locked only to a process that tries to lock it. A
    driver that starts at that moment would find the study locked by nobody. So every attempt takes
    a second lock first, the gate, and holds it only for that attempt: a starting driver waits for
    it, and has written its name and removed an old request to stop before anyone else looks.

    Attributes:
        folder: The study's own folder.
        study: Its name.
    """

    folder: Path
    study: str

    @contextmanager
    def held(self, command: str = "run") -> Iterator[None]:
        """Hold the lock, so that no second driver runs the study at once.

        Args:
            command: The `study` command that holds it, named to other processes that ask.

        Raises:
            StudyLockedError: If another process holds it, with its name.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+") as lock:
            with self._gate():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    message = f"study {self.study!r} is being run by {self._holder()}"
                    raise StudyLockedError(message) from error
                lock.truncate(0)
                json.dump(this_process(command), lock)
                lock.flush()
                self._request.unlink(missing_ok=True)  # meant for an earlier driver
            yield  # the system releases the lock with the process, also when it is killed

    def driver(self) -> str | None:
        """The process that holds the lock, such as `process 4711 on host, since 14:02`."""
        return self._ask(stop=False)

    def request_stop(self) -> str | None:
        """Ask the driver to stop.

        Returns:
            The process that was asked; None if no process holds the lock.
        """
        return self._ask(stop=True)

    def stop_requested(self) -> bool:
        """Whether the driver was asked to stop."""
        return self._request.exists()

    @property
    def _file(self) -> Path:
        return self.folder / "driver"

    @property
    def _request(self) -> Path:
        return self.folder / "stop"

    @contextmanager
    def _gate(self) -> Iterator[None]:
        with (self.folder / "gate").open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield

    def _ask(self, *, stop: bool) -> str | None:
        if not self._file.exists():
            return None
        with self._gate(), self._file.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if stop:
                    self._request.touch()
                return self._holder()
        return None

    def _holder(self) -> str:
        try:
            return describe_process(json.loads(self._file.read_text()))
        except json.JSONDecodeError:  # a network file system may show the content late
            return "another process"


def this_process(command: str) -> dict[str, Any]:
    """This process, as it is described to others that want the study.

    Args:
        command: The `study` command that it carries out.
    """
    return {
        "command": command,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time(),
    }


def describe_process(holder: Mapping[str, Any]) -> str:
    """`process 4711 on host, since 14:02` for a driver; other commands are named first."""
    process = f"process {holder['pid']} on {holder['host']}, since {clock(holder['since'])}"
    command = holder.get("command", "run")
    return process if command == "run" else f"study {command} ({process})"


def clock(seconds: float) -> str:
    """A time of day in local time, with the date where it is not today's."""
    then = time.localtime(seconds)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)
