"""A user-defined technique that fails once when a file (a trap) is put into a folder.

The technique and its study are copied to the driver's home, which other hosts cannot read, so that
the module, the data and the weights must be sent to workers. Traps are not fields of the technique,
so keys stay the same.
"""

import os
import signal
import time
from pathlib import Path

from study import Technique

TRAPS = Path(os.environ.get("TRAPS", "/mnt/study-testbed/traps"))


class Trapped(Technique):
    """Trains as usual, unless there is a file in the folder of traps, which says how to fail."""

    def after_step(self, state):
        if state.step != 3 or not TRAPS.is_dir():
            return
        for trap in TRAPS.iterdir():
            try:
                # Atomic, so that only one run takes it.
                trap.rename(trap.parent.with_name("sprung") / trap.name)
            except FileNotFoundError:
                continue
            if trap.name == "hang":
                time.sleep(3600)
            elif trap.name == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            elif trap.name == "memory":
                raise MemoryError("a trap")
            elif trap.name == "balloon":
                taken = []
                for _ in range(120):  # 0.1 GB each, until Ray's memory monitor kills this process
                    taken.append(b"x" * 100_000_000)
                    time.sleep(0.05)
