"""Writes a study to MLflow: the study is an experiment, a cell a parent run, a run a child run.

The driver alone writes, from one thread: entries go from the outbox to MLflow, and leave the outbox
only when MLflow has them. If the store vanishes, the thread waits for it and never creates a new
one.
"""

import getpass
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.core.lock import clock
from study.core.paths import OUTBOX, Home
from study.core.provenance import provenance
from study.planning.runs import Run
from study.planning.stages import CellPlan, Stages
from study.planning.study import Study
from study.planning.study_file import folder_of
from study.tasks.metrics import Metric
from study.tracking.cells import CellRuns
from study.tracking.entry import Entry, Record
from study.tracking.experiment import Experiment
from study.tracking.lease import Lease
from study.tracking.schema import OPENED, STAGE
from study.tracking.sender import Sender
from study.tracking.store import TROUBLE, Store, in_brief

log = logging.getLogger(__name__)

SUMMARY_SECONDS = 3.0  # a summary costs as much as a run; people look every few seconds at most
RETRY_SECONDS = 1.0
IDLE_SECONDS = 0.05  # between two looks at an empty outbox


class TrackingWriter:
    """One study's experiment and outbox, as the driver uses them.

    Attributes:
        stages: The runs that the study asks for so far.
        outbox: Finished runs that wait for MLflow.
    """

    def __init__(self, home: Home, study: Study, source: Path | None) -> None:
        """Open the experiment, drain the outbox, and create the cells' parent runs.

        Args:
            home: Has the outbox.
            study: The study.
            source: The study file, for MLflow's source column; None where there is none.

        Raises:
            StoreGoneError: If the store has vanished, or a server cannot be used.
            StudyLockedError: If a driver with another home holds the study.
        """
        name = study.name
        self._store = Store(home.uri, home.artifacts)
        experiment = self._store.experiment(name)
        self._lease: Lease | None = None
        self._thread: WriterThread | None = None
        if home.shared:
            stop = home.lock(name).request_stop
            self._lease = Lease(self._store, experiment, name, stop=stop)
        try:
            self._provenance = provenance(folder_of(source))
            self._experiment = Experiment(self._store, experiment, self._check)
            self._cells = CellRuns(self._experiment, source)
            folder = home.study(name) / OUTBOX
            self._sender = Sender(folder, self._experiment, self._cells, self._check)
            self.outbox = self._sender.outbox
            scores = {key: record.dev for key, record in self.finished.items()}
            self.stages = Stages(study, scores)
            self._cells.add(self.stages.plans)
            open_again(self._experiment, self._cells, name, source)
            self._cells.create()
            self._sender.drain()
            self._thread = WriterThread(self._sender, self._cells)
        except BaseException:
            self._give_back()
            raise

    @property
    def trouble(self) -> str | None:
        """What the thread waits for; None while the store works."""
        return self._thread.trouble if self._thread else None

    @property
    def records(self) -> Mapping[str, Record]:
        """Runs that MLflow has, by key."""
        return self._experiment.records

    @property
    def finished(self) -> dict[str, Record]:
        """Runs that need not run again, by key: in MLflow, or left in the outbox by earlier starts.

        A copy, since the thread goes on writing.
        """
        return self._sender.finished

    @property
    def full(self) -> bool:
        """Whether no more runs should start: too many wait, or another driver has taken over.

        Raises:
            Exception: What ended the thread, as from `put`.
        """
        self._raise_failure()
        replaced = self._lease is not None and self._lease.lost is not None
        return replaced or self._sender.full

    @property
    def waiting(self) -> list[str] | None:
        """Keys of the runs that wait for MLflow; None if the disk cannot be read."""
        return self._sender.waiting

    def put(self, entry: Entry, predictions: bytes) -> None:
        """Hand over a finished run; it is on disk when this returns, unless the disk is full.

        Raises:
            Exception: What ended the thread, if it was not trouble with the store; the run is on
                disk then too.
        """
        stage = {STAGE: self.stages.stage(entry.key)}
        self._sender.put(replace(entry, tags=entry.tags | self._provenance | stage), predictions)
        self._raise_failure()

    def add(self, plans: Iterable[CellPlan]) -> None:
        """Take more cells that the study asks for, before any of their runs is put."""
        self._cells.add(plans)

    def note_missing(self, run: Run, reason: str) -> None:
        """Say in a run's cell why the run is missing."""
        self._cells.note_problem(run, self.stages.stage(run.key), reason)

    def scores_by_cell(self) -> list[tuple[str, Metric, list[Record]]]:
        """Each final cell's name, its metric, and its finished runs."""
        return self._cells.scores()

    def close(self, patience: float) -> int:
        """Write what waits, update all cells, and end the thread.

        Args:
            patience: Seconds to wait for a store in trouble.

        Returns:
            Number of entries left in the outbox; the next start sends them.

        Raises:
            StudyLockedError: If another driver has taken over.
            Exception: What ended the thread before, if it was not trouble with the store.
        """
        if self._thread:
            self._thread.end(time.monotonic() + patience)
            self._thread.join(timeout=patience + 10.0)
        self.release()
        if unwritten := self._sender.unwritten:
            log.error("The disk is full: %d finished runs are lost.", unwritten)
        if outdated := self._cells.outdated():
            log.warning(
                "%d cells are not up to date in MLflow; the next start updates them: %s.",
                *(len(outdated), ", ".join(outdated[:5]) + (", ..." if outdated[5:] else "")),
            )
        self._raise_failure()
        return len(self.waiting or [])

    def release(self) -> None:
        """End the thread, and let another driver have the study when no request is under way."""
        if self._thread:
            self._thread.end(0.0)
            if self._thread.is_alive():
                self._thread.join(timeout=10.0)
        self._give_back()

    def _give_back(self) -> None:
        if self._lease is None:
            return
        if self._thread and self._thread.is_alive():  # it may be waiting for a response
            self._lease.lapse()
        else:
            self._lease.release()

    def _check(self) -> None:
        """Make sure that a write goes to the right store, and that this driver may write."""
        self._store.check()
        if self._lease is not None:
            self._lease.check()

    def _raise_failure(self) -> None:
        if self._thread and self._thread.failure is not None:
            raise self._thread.failure


class WriterThread(threading.Thread):
    """Drains the outbox and keeps the summaries of cells up to date, until `end`.

    Attributes:
        trouble: What it waits for; None while the store works.
        failure: What ended it, if that was not trouble with the store. A thread cannot raise in
            the driver's, so the driver looks here.
    """

    def __init__(self, sender: Sender, cells: CellRuns) -> None:
        super().__init__(name="tracking", daemon=True)
        self.trouble: str | None = None
        self.failure: Exception | None = None
        self._sender, self._cells = sender, cells
        self._closing = threading.Event()
        self.start()

    def end(self, deadline: float) -> None:
        """Have it write what is left, retry until the deadline (monotonic clock), and end."""
        self._sender.deadline = deadline
        # Before the event: once the thread sees that, it must find all cells that are to be closed.
        self._cells.close()
        self._closing.set()

    def run(self) -> None:
        """Write until `end`, or until something other than the store fails."""
        summarised = 0.0
        while True:
            closing = self._closing.is_set()
            moved = 0
            try:
                moved = self._sender.drain()
                if closing or time.monotonic() - summarised > SUMMARY_SECONDS:
                    self._cells.summarise()
                    summarised = time.monotonic()
                if self._sender.stuck:
                    self.trouble = next(iter(self._sender.stuck.values()))
                else:
                    self._all_well()
            except TROUBLE as error:
                self._in_trouble(error)
            except Exception as error:
                log.error("Writing to MLflow has ended; runs wait in %s.", self._folder)
                self.failure = error
                return
            if closing:
                if not self.trouble or time.monotonic() > self._sender.deadline:
                    return
                time.sleep(RETRY_SECONDS)
            elif not moved:
                self._closing.wait(RETRY_SECONDS if self.trouble else IDLE_SECONDS)

    @property
    def _folder(self) -> Path:
        return self._sender.outbox.folder

    def _in_trouble(self, error: Exception) -> None:
        reason = in_brief(error)
        if self.trouble is None:
            log.warning("MLflow: %s. Finished runs wait in %s.", reason, self._folder)
        self.trouble = reason

    def _all_well(self) -> None:
        if self.trouble is not None:
            log.warning("MLflow is back.")
        self.trouble = None


def open_again(experiment: Experiment, cells: CellRuns, name: str, source: Path | None) -> None:
    """Bring an experiment in line with the study file.

    Cells that the file no longer has are marked, duplicates are deleted, and this driver is noted
    as the last one. A warning names the one before if it may be of another study with this name.

    Args:
        experiment: The study's.
        cells: With all that the study file asks for.
        name: The study's.
        source: The study file; None where there is none.
    """
    retired = cells.retired()
    client = experiment.store.client
    file = str(source or folder_of(None))
    me: dict[str, Any] = {"who": f"{_user()} on {socket.gethostname()}", "file": file}
    last = _last_driver(client.get_experiment(experiment.id).tags.get(OPENED, "")) or me
    if retired and any(last[field] != me[field] for field in me):
        log.warning(
            "%d cells of study %r are not in this file. Last opened by %s at %s with %s. If that "
            "is another study, rename one of the two.",
            *(len(retired), name, last["who"], clock(last["when"]), last["file"]),
        )
    now = json.dumps({**me, "when": time.time()})
    experiment.writing().set_experiment_tag(experiment.id, OPENED, now)
    cells.mark_retired(retired)
    for run_id in experiment.duplicates:
        experiment.writing().delete_run(run_id)


def _last_driver(text: str) -> dict[str, Any] | None:
    with suppress(ValueError, KeyError, TypeError):  # anybody can write a tag
        data = json.loads(text)
        return {"who": str(data["who"]), "file": str(data["file"]), "when": float(data["when"])}
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no name
        return str(os.getuid())
