"""File lock that allows one driver per study, and requests to stop that driver."""

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
    """Another process holds the study's lock."""


@dataclass(frozen=True)
class StudyLock:
    """The lock file that the driver of a study holds, and requests to that driver to stop.

    `flock` offers no query: the only way to learn whether a file is locked is to try to lock it. A
    query can therefore make a driver fail that starts at the same moment. To prevent this, every
    attempt first takes a second lock, the gate, for the duration of the attempt. A starting driver
    waits for the gate, and releases it only after writing its own name and removing an old request
    to stop, so queries never see a stale holder.

    Attributes:
        folder: The study's own folder.
        study: The study's name.
    """

    folder: Path
    study: str

    @contextmanager
    def held(self, command: str = "run") -> Iterator[None]:
        """Hold the lock while the block runs.

        Args:
            command: The `study` command that holds it, shown to processes that find it locked.

        Raises:
            StudyLockedError: If another process holds it; the message describes that process.
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
                self._request.unlink(missing_ok=True)  # addressed to an earlier driver
            yield  # the kernel releases the lock when the process ends, even if it is killed

    def driver(self) -> str | None:
        """The process that holds the lock, such as `process 4711 on host, since 14:02`."""
        return self._ask(stop=False)

    def request_stop(self) -> str | None:
        """Ask the driver to stop.

        Returns:
            The driver's description; None if no process holds the lock.
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
    """Data from which `describe_process` describes this process to others.

    Args:
        command: The `study` command that this process runs.
    """
    return {
        "command": command,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time(),
    }


def describe_process(holder: Mapping[str, Any]) -> str:
    """`process 4711 on host, since 14:02`, preceded by the command unless it is `run`."""
    process = f"process {holder['pid']} on {holder['host']}, since {clock(holder['since'])}"
    command = holder.get("command", "run")
    return process if command == "run" else f"study {command} ({process})"


def clock(seconds: float) -> str:
    """A Unix time as local time of day, with the date unless it is today."""
    then = time.localtime(seconds)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)
