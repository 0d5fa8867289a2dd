"""Which run is next, which cells are paused, and how far the study is."""

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
    """How far a study is; the display reads it, the runner writes it.

    Attributes:
        total: Runs that the study asks for.
        finished: Runs with an outcome, those of earlier starts included.
        workers: Runs under way at once, as far as seen.
        problems: Why runs are missing, by run name.
        paused: Cells that stopped after the same error again and again.
        retried: Times a run was started again, by cause.
        seconds: Duration of each run finished since the start.
        began: When the first run was handed out (`time.monotonic`).
        stopped: Whether somebody asked to stop.
        closed: Why no new runs begin, such as a budget that is spent; empty while they do.
        trouble: What the study waits for, such as room on a disk; empty while it does not.
        lacks: Likewise, of what no machine of the cluster has at present.
        takes: What each run takes that was handed to Tune, by Tune's trial.
        alone: Those of them that get a machine to themselves.
        traces: Where the tracebacks of failed runs are, one file per cell; None without any.
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
    lacks: str = ""
    takes: dict[str, Mapping[str, float]] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    traces: Path | None = None

    @property
    def held(self) -> list[str]:
        """Cells of which no further run may begin, by name; `ALL` stands for every one."""
        return [*self.paused, *([ALL] if self.closed else [])]

    @property
    def missing(self) -> int:
        """Runs that have no outcome yet."""
        return self.total - self.finished

    def seconds_left(self) -> float | None:
        """Estimated from the runs finished since the start; None before the first."""
        if not self.seconds:
            return None
        left = self.missing - len(self.problems)
        return left * statistics.mean(self.seconds) / max(1, self.workers)


More = Callable[[Run, float], tuple[list[Run], list[Run]]]


class RunQueue:
    """The runs still to be done, handed out one by one; a paused cell's are skipped."""

    def __init__(
        self, runs: list[Run], progress: Progress, *, keep_going: bool, more: More | None = None
    ) -> None:
        """Line the runs up.

        Args:
            runs: What is missing so far, in the order to start them.
            progress: Kept up to date.
            keep_going: Do not pause cells that fail again and again.
            more: Called with a finished run and its dev score, the runs that it brings: those to
                do first and those to do last. None where nothing is decided on the way.
        """
        self.runs = {run.key: run for run in runs}
        self.faults: dict[str, Counter[Cause]] = {}  # of every run that was lost, by its key
        self._waiting = deque(runs)
        self._more = more
        self._under_way: dict[str, None] = {}  # in the order in which they were handed out
        self._errors: dict[str, list[str]] = {}
        self._succeeded: set[str] = set()
        self._keep_going = keep_going
        self._progress = progress

    def next(self) -> Run | None:
        """The next run; None where none is waiting, or none may begin."""
        while self._waiting and not self._progress.closed:
            run = self._waiting.popleft()
            if run.cell.name not in self._progress.paused:
                self._under_way[run.key] = None
                return run
            self._progress.problems[run.name] = "its cell is paused"
        return None

    @property
    def may_get_more(self) -> bool:
        """Whether a run under way can still bring others, or itself again."""
        return bool(self._under_way) and not self._progress.closed

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to hand out."""
        return not (self._waiting or self._under_way) or bool(self._progress.closed)

    def alone(self, run: Run) -> bool:
        """Whether a run gets a machine to itself: it was out of memory beside others.

        Linux ends such a process without a word, so a second death counts as that too.
        """
        seen = self.faults.get(run.key, Counter())
        return seen["memory"] > 0 or seen["process"] > 1

    def held(self, run: Run) -> None:
        """Take back a run that was handed out: it must not begin any more, or was refused."""
        self._under_way.pop(run.key, None)
        if run.cell.name in self._progress.paused:
            self._progress.problems[run.name] = "its cell is paused"
        else:
            self._waiting.appendleft(run)

    def recall(self) -> None:
        """Take back all that was handed out and has no end."""
        for key in reversed(list(self._under_way)):
            self.held(self.runs[key])

    def failed(self, run: Run, fault: Fault) -> bool:
        """Note what kept a run from its outcome, and pause its cell where that is the code.

        Returns:
            Whether it will be tried again.
        """
        self._under_way.pop(run.key, None)
        seen = self.faults.setdefault(run.key, Counter())
        seen[fault.cause] += 1
        if seen[fault.cause] <= RETRIES[fault.cause]:
            self._progress.retried[fault.cause] += 1
            if self.alone(run):  # a whole machine is free when the others are done
                self._waiting.append(run)
            else:
                self._waiting.appendleft(run)
            return True
        self._progress.problems[run.name] = fault.reason
        errors = self._errors.setdefault(run.cell.key, [])
        # What memory lacked differs from run to run, as does what torch says of it.
        errors.append(fault.reason if fault.cause == "code" else fault.cause)
        repeated = Counter(errors).most_common(1)[0][1] >= SAME_ERRORS
        new = run.cell.key not in self._succeeded and run.cell.name not in self._progress.paused
        if repeated and new and not self._keep_going:
            log.warning("%s is paused: %s", run.cell.name, fault.reason)
            self._progress.paused.append(run.cell.name)
        return False

    def succeeded(self, run: Run, dev: float) -> None:
        """Note an outcome: the cell works.

        Args:
            run: Which.
            dev: Its dev score; the constant answer's where it diverged.
        """
        self._under_way.pop(run.key, None)
        self._succeeded.add(run.cell.key)
        self._progress.problems.pop(run.name, None)
        first, last = self._more(run, dev) if self._more else ([], [])
        self.runs |= {each.key: each for each in [*first, *last]}
        self._waiting.extendleft(reversed(first))
        self._waiting.extend(last)
