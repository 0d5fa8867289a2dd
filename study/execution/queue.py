"""The queue of runs: which run is next, which cells are paused, and the progress of the study."""

import logging
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from study.execution.faults import RETRIES, Cause, Fault
from study.planning.runs import Run

log = logging.getLogger(__name__)

ALL = "*"
SAME_ERRORS = 3  # the same error in this many first runs of a cell pauses it


@dataclass
class Progress:
    """How far a study is; written by the driver, read by the display.

    Attributes:
        total: Runs that the study asks for.
        finished: Runs with an outcome, including those of earlier starts.
        workers: Highest number of runs that were seen under way at once.
        problems: Why runs are missing, by run name.
        paused: Names of cells that were paused after repeated errors.
        retried: Number of retries, by cause.
        seconds: Duration of each run finished since the start.
        began: When the first run was handed out (`time.monotonic`).
        stopped: Whether the user stopped the study.
        closed: Why no new runs begin, for instance a spent budget; empty while they do.
        trouble: What the study waits for, for instance space on a disk; empty while it does not.
        shortage: Which runs no machine of the cluster can hold at present; empty if there are none.
        resources: What each run takes that was handed to Tune, by Tune's trial id.
        exclusive: Trial ids of those that have a machine to themselves.
        traces: Folder of the tracebacks of failed runs, one file per cell; None without any.
    """

    total: int
    finished: int
    workers: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    paused: list[str] = field(default_factory=list)
    retried: Counter[Cause] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    stopped: bool = False
    closed: str = ""
    trouble: str = ""
    shortage: str = ""
    resources: dict[str, Mapping[str, float]] = field(default_factory=dict)
    exclusive: set[str] = field(default_factory=set)
    traces: Path | None = None

    @property
    def blocked(self) -> list[str]:
        """Names of cells of which no further run may begin; `ALL` stands for every cell."""
        return [*self.paused, *([ALL] if self.closed else [])]

    @property
    def missing(self) -> int:
        """Number of runs without an outcome."""
        return self.total - self.finished

    def seconds_left(self) -> float | None:
        """Estimated from the runs finished since the start; None before the first."""
        if not self.seconds:
            return None
        left = self.missing - len(self.problems)
        return left * statistics.mean(self.seconds) / max(1, self.workers)


More = Callable[[Run, float], tuple[list[Run], list[Run]]]


class RunQueue:
    """The runs still to be executed, handed out one by one; runs of paused cells are skipped.

    Attributes:
        runs: All runs by key, done or not.
        faults: How often each run was lost, by its key and the cause.
        progress: Kept up to date.
    """

    def __init__(
        self, runs: list[Run], progress: Progress, *, keep_going: bool, more: More | None = None
    ) -> None:
        """Put the runs into the queue.

        Args:
            runs: What is missing so far, in the order to start them.
            progress: Kept up to date.
            keep_going: Do not pause cells after repeated errors.
            more: Called with a finished run and its dev score; returns the runs that follow from
                it: those to execute first, and those to execute last. None without searches.
        """
        self.runs = {run.key: run for run in runs}
        self.faults: dict[str, Counter[Cause]] = {}
        self.progress = progress
        self._waiting = deque(runs)
        self._more = more
        self._under_way: dict[str, None] = {}  # an ordered set: as they were handed out
        self._errors: dict[str, list[str]] = {}
        self._succeeded: set[str] = set()
        self._keep_going = keep_going

    def next(self) -> Run | None:
        """The next run; None if none is waiting, or none may begin."""
        while self._waiting and not self.progress.closed:
            run = self._waiting.popleft()
            if run.cell.name not in self.progress.paused:
                self._under_way[run.key] = None
                return run
            self.progress.problems[run.name] = "its cell is paused"
        return None

    @property
    def may_get_more(self) -> bool:
        """Whether a run under way can still add runs, or be retried itself."""
        return bool(self._under_way) and not self.progress.closed

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to hand out."""
        return not (self._waiting or self._under_way) or bool(self.progress.closed)

    def needs_own_machine(self, run: Run) -> bool:
        """Whether a run gets a machine to itself, since it ran out of memory beside others.

        Linux's out-of-memory killer leaves no message, so a second death without one counts too.
        """
        faults = self.faults.get(run.key, Counter())
        return faults["memory"] > 0 or faults["process"] > 1

    def put_back(self, run: Run) -> None:
        """Take back a run that was handed out but did not begin."""
        self._under_way.pop(run.key, None)
        if run.cell.name in self.progress.paused:
            self.progress.problems[run.name] = "its cell is paused"
        else:
            self._waiting.appendleft(run)

    def put_all_back(self) -> None:
        """Take back all runs that were handed out and have not ended."""
        for key in reversed(list(self._under_way)):
            self.put_back(self.runs[key])

    def failed(self, run: Run, fault: Fault) -> bool:
        """Note what kept a run from its outcome; pause its cell after repeated errors.

        Returns:
            Whether the run will be tried again.
        """
        self._under_way.pop(run.key, None)
        faults = self.faults.setdefault(run.key, Counter())
        faults[fault.cause] += 1
        if faults[fault.cause] <= RETRIES[fault.cause]:
            self.progress.retried[fault.cause] += 1
            if self.needs_own_machine(run):  # a whole machine is free when the others are done
                self._waiting.append(run)
            else:
                self._waiting.appendleft(run)
            return True
        self.progress.problems[run.name] = fault.reason
        errors = self._errors.setdefault(run.cell.key, [])
        # By cause, where the reason has numbers in it that differ from run to run.
        errors.append(fault.reason if fault.cause == "code" else fault.cause)
        repeated = Counter(errors).most_common(1)[0][1] >= SAME_ERRORS
        new = run.cell.key not in self._succeeded and run.cell.name not in self.progress.paused
        if repeated and new and not self._keep_going:
            log.warning("%s is paused: %s", run.cell.name, fault.reason)
            self.progress.paused.append(run.cell.name)
        return False

    def succeeded(self, run: Run, dev: float) -> None:
        """Note an outcome, and add the runs that follow from it.

        Args:
            run: The run.
            dev: Its dev score; the constant predictor's if the run diverged.
        """
        self._under_way.pop(run.key, None)
        self._succeeded.add(run.cell.key)
        self.progress.problems.pop(run.name, None)
        first, last = self._more(run, dev) if self._more else ([], [])
        self.runs |= {added.key: added for added in [*first, *last]}
        self._waiting.extendleft(reversed(first))
        self._waiting.extend(last)
