"""Monitors a study while it runs: requests to stop, the budget, and trouble that lasts."""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from types import TracebackType

from ray.exceptions import RayError

from study.core.paths import Home
from study.execution import capacity, cluster
from study.execution.notify import Notifier
from study.execution.session import Session
from study.planning.budget import Budget, Meter

log = logging.getLogger(__name__)

STOP_SECONDS = 0.5  # between checks for a request to stop
LOOK_SECONDS = 5.0  # between checks of the budget, the store and the cluster
TROUBLE_SECONDS = 60.0  # before a notification, since a store may be unavailable for a moment
FIRST_SECONDS = 900.0  # likewise before the first machine, which takes minutes to start
JOIN_SECONDS = 10.0


class Monitor:
    """A thread that watches a study, and handlers of signals, while the context is entered.

    SIGTERM and `study stop` end the study as Ctrl-C does. When the budget is spent, no further run
    begins. What a user should know about goes to the progress line and, if it lasts, into a
    notification. To be entered after Ray has started, which sets a handler of SIGTERM itself.
    """

    def __init__(self, session: Session, home: Home, need: Mapping[str, float]) -> None:
        """Prepare to monitor.

        Args:
            session: What to monitor.
            home: Has the request to stop.
            need: What the smallest run takes of a machine, by the name of the resource.
        """
        self._session, self._home, self._need = session, home, need
        unit = "GPU" if session.study.gpus else "CPU"
        self._meter = Meter(session.study.budget or Budget(), lambda: capacity.amount(unit))
        self._troubles = Troubles(session.notifier)
        self._had_capacity = False
        self._errors: set[str] = set()  # that were logged
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)

    def __enter__(self) -> "Monitor":
        self._on_terminate = signal.signal(signal.SIGTERM, _interrupt)
        # A shell starts background jobs with SIGINT ignored, and Python then leaves it ignored.
        self._on_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(JOIN_SECONDS)  # it must not ask a cluster that was left
        self._session.progress.shortage = ""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, self._on_terminate)

    def _watch(self) -> None:
        looked = -math.inf
        while not self._over.wait(STOP_SECONDS):
            try:
                if self._home.lock(self._session.study.name).stop_requested():
                    _interrupt()
                    return
                if time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    self._look()
            except (OSError, RuntimeError, RayError) as error:  # may be over at the next look
                if str(error) not in self._errors:
                    log.warning("budget and cluster could not be checked: %s", error)
                self._errors.add(str(error))

    def _look(self) -> None:
        progress, trouble = self._session.progress, self._session.tracking.trouble
        if spent := progress.closed or self._meter.spent():
            progress.closed = spent
            cluster.block(progress.blocked)  # each time, since an earlier call may have failed
        progress.shortage = self._shortage()
        self._troubles.note("mlflow", f"MLflow: {trouble}" if trouble else "", TROUBLE_SECONDS)
        patience = TROUBLE_SECONDS if self._had_capacity else FIRST_SECONDS
        self._troubles.note("capacity", progress.shortage, patience)

    def _shortage(self) -> str:
        """Which runs no machine of the cluster can hold at present; empty if there are none."""
        progress = self._session.progress
        if not capacity.runs_at_once(self._need):
            return "no machine of the cluster can hold a run now"
        self._had_capacity = True
        unschedulable = capacity.unschedulable(dict(progress.resources))  # the main thread adds
        if progress.exclusive & unschedulable:
            return (
                "a run that ran out of memory needs an exclusive machine, which has left the "
                "cluster"
            )
        return "no machine of the cluster can hold its larger runs now" if unschedulable else ""


class Troubles:
    """Sends a notification of trouble that has lasted for a while."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._since: dict[str, float] = {}  # when trouble of a kind began

    def note(self, kind: str, text: str, patience: float) -> None:
        """Take the present state of one kind of trouble.

        Args:
            kind: For instance `mlflow`.
            text: For people; empty if there is no such trouble.
            patience: Seconds that it must have lasted.
        """
        now = time.monotonic()
        if not text:
            self._since.pop(kind, None)
        elif now - self._since.setdefault(kind, now) > patience:
            self._notifier.trouble(kind, text)


def _interrupt(*_: object) -> None:
    """Raise KeyboardInterrupt in the main thread, from a handler or from another thread."""
    os.kill(os.getpid(), signal.SIGINT)
