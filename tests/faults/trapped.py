"""A user's own technique that can be made to fail once, by a file in the folder of traps.

It and its study are copied to the driver's home folder, which the other hosts do not see, so that
the module, the rows and the weights are sent. What a trap does is no field of the technique, so
that keys stay the same.
"""

import os
import signal
import time
from pathlib import Path

from study import Technique

TRAPS = Path(os.environ.get("TRAPS", "/mnt/study-testbed/traps"))


class Trapped(Technique):
    """Trains as usual, unless there is a file in the folder of traps: that is moved, and sprung."""

    def after_step(self, state):
        if state.step != 3 or not TRAPS.is_dir():
            return
        for trap in TRAPS.iterdir():
            try:
                trap.rename(trap.parent.with_name("sprung") / trap.name)  # one run takes it
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
                for _ in range(120):  # 0.1 GB each, until Ray's own watch ends this process
                    taken.append(b"x" * 100_000_000)
                    time.sleep(0.05)
