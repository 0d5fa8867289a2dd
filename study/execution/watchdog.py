"""Ends a worker process that hangs, so that its run is done again elsewhere."""

import faulthandler
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

ARMED_SECONDS = 1.0  # how often at most the alarm is set anew; each time starts a thread


class Watchdog:
    """While it is held, `beat` must be called again and again, or the process ends.

    The alarm needs no cooperation of Python's: a thread that never gives the interpreter back, or
    waits for a device or a disk for ever, does not keep it from going off.
    """

    def __init__(self, seconds: float, told: Path) -> None:
        """Prepare.

        Args:
            seconds: Without a beat, after which the process ends.
            told: Gets the traceback of every thread then; where it cannot be written, standard
                error gets it.
        """
        self._seconds, self._told = seconds, told

    def __enter__(self) -> "Watchdog":
        self._file: TextIO | None = None
        with suppress(OSError):
            self._told.parent.mkdir(exist_ok=True)
            self._file = self._told.open("w")
        self._armed = -ARMED_SECONDS
        self.beat()
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        with suppress(OSError):  # a disk that fails does not undo the run
            if self._file is not None:
                self._file.close()
                self._told.unlink(missing_ok=True)

    def beat(self) -> None:
        """Something has moved."""
        now = time.monotonic()
        if now - self._armed >= ARMED_SECONDS:
            self._armed = now
            file = self._file or sys.stderr
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=file)
