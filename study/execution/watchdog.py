"""Watchdog: ends a worker process that hangs, so that its run is tried again elsewhere."""

import faulthandler
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

ARM_SECONDS = 1.0  # between two resets of the timer; each starts a thread


class Watchdog:
    """While the context is entered, the process ends unless `heartbeat` is called regularly.

    The timer of `faulthandler` does not need the interpreter: it fires even if a thread never
    releases the GIL, or waits for a device or a disk for ever.
    """

    def __init__(self, seconds: float, trace: Path) -> None:
        """Prepare.

        Args:
            seconds: Time without a heartbeat after which the process ends.
            trace: Then gets the traceback of every thread; standard error, if the file cannot be
                written.
        """
        self._seconds, self._trace = seconds, trace

    def __enter__(self) -> "Watchdog":
        self._file: TextIO | None = None
        with suppress(OSError):
            self._trace.parent.mkdir(exist_ok=True)
            self._file = self._trace.open("w")
        self._armed = -ARM_SECONDS
        self.heartbeat()
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        with suppress(OSError):  # the run is done, whatever the disk does
            if self._file is not None:
                self._file.close()
                self._trace.unlink(missing_ok=True)

    def heartbeat(self) -> None:
        """Note progress: reset the timer."""
        now = time.monotonic()
        if now - self._armed >= ARM_SECONDS:
            self._armed = now
            file = self._file or sys.stderr
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=file)
