"""Sends finished runs from the outbox to MLflow, each exactly once."""

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlflow.exceptions import MlflowException

from study.tracking.cells import CellRuns
from study.tracking.entry import Entry, Record
from study.tracking.experiment import Experiment, cell_stage
from study.tracking.outbox import Outbox, waiting
from study.tracking.schema import IN_STUDY, SEED
from study.tracking.store import TROUBLE, in_brief

log = logging.getLogger(__name__)

OUTBOX_LIMIT = 1000  # entries; a run's predictions can be megabytes


class Sender:
    """A study's outbox, and its way to the experiment.

    The driver calls `put`; the writer thread alone calls `drain`. An entry leaves the outbox only
    when MLflow certainly has it.

    Attributes:
        outbox: Finished runs on disk.
        earlier: Finished runs that earlier starts of the study left in the outbox, by key.
        stuck: Why an entry cannot be sent, by its key.
        deadline: When `drain` gives up on entries in trouble, by the monotonic clock.
    """

    def __init__(
        self, folder: Path, experiment: Experiment, cells: CellRuns, check: Callable[[], object]
    ) -> None:
        """Open the outbox.

        Args:
            folder: The outbox.
            experiment: Gets the runs.
            cells: Has their parent runs.
            check: Raises if the store is in trouble or this process may not write to it.
        """
        self.outbox = Outbox(folder)
        self.outbox.recover()
        self.earlier: dict[str, Record] = {e.key: e.record() for e in waiting(folder)}
        self.stuck: dict[str, str] = {}
        self.deadline = math.inf
        self._experiment, self._cells, self._check = experiment, cells, check
        self._refused: set[str] = set()  # by MLflow; tried again at the next start
        self._unwritten: list[tuple[Entry, bytes]] = []  # in memory, since the disk was full
        self._lock = threading.Lock()

    # --- for the driver ---

    @property
    def finished(self) -> dict[str, Record]:
        """Finished runs by key, in MLflow or left by earlier starts; a copy."""
        return {**self.earlier, **self._experiment.records}

    @property
    def full(self) -> bool:
        """Whether the disk is full, or too many entries wait."""
        if self._unwritten:
            return True
        try:
            return self.outbox.count() >= OUTBOX_LIMIT
        except OSError:  # the disk does not respond
            return True

    @property
    def waiting(self) -> list[str] | None:
        """Keys of the runs that wait for MLflow; None if the disk cannot be read."""
        try:
            return self.outbox.keys()
        except OSError:
            return None

    @property
    def unwritten(self) -> int:
        """Number of finished runs that are in memory alone."""
        return len(self._unwritten)

    def put(self, entry: Entry, predictions: bytes) -> None:
        """Write an entry to the outbox, or keep it in memory while the disk is full."""
        try:
            self.outbox.put(entry, predictions)
        except OSError as error:
            log.warning("%s: %s. Finished runs stay in memory.", self.outbox.folder, error.strerror)
            with self._lock:
                self._unwritten.append((entry, predictions))

    # --- for the thread, and before it starts ---

    def drain(self) -> int:
        """Send all entries, those in memory included.

        Returns:
            The number of entries that were sent.

        Raises:
            OSError: If the disk is full and nothing could be sent.
            Exception: One of `TROUBLE`, of the store.
        """
        moved = 0
        while True:
            full = self._put_unwritten()
            sent = self._send_waiting()  # also while the disk is full: this frees space
            moved += sent
            if full is None:
                return moved
            if not sent:
                raise full

    def _put_unwritten(self) -> OSError | None:
        """Write entries in memory to the disk; returns the error if the disk is still full."""
        while self._unwritten:
            try:
                self.outbox.put(*self._unwritten[0])
            except OSError as error:
                return error
            with self._lock:
                self._unwritten.pop(0)
        return None

    def _send_waiting(self) -> int:
        waiting = self.outbox.keys()
        keys = [key for key in waiting if key not in self._refused]
        # After the keys were listed: a cell is planned before its runs finish, so every listed run
        # has its parent then.
        self._cells.create()
        self.stuck = {key: why for key, why in self.stuck.items() if key in keys}
        moved = 0
        for key in sorted(keys, key=self.stuck.__contains__):  # those in trouble last
            try:
                moved += self._send(key)
            except TROUBLE as error:
                # Raises if the store or the experiment is in trouble. Otherwise it is this entry
                # alone, and the others can be sent.
                self._check()
                self._experiment.check()
                reason = f"run {key} cannot be sent: {in_brief(error)}"
                if key not in self.stuck:
                    log.warning(
                        "%s. Kept in %s; continuing with the others.", reason, self.outbox.folder
                    )
                self.stuck[key] = reason
                if time.monotonic() > self.deadline:
                    return moved
            else:
                self.stuck.pop(key, None)
        return moved

    def _send(self, key: str) -> bool:
        """Send an entry; False if it is damaged or was refused."""
        try:
            entry, artifacts = self.outbox.get(key)
        except ValueError as error:
            path = self.outbox.set_aside(key, f"run {key}: {error}")
            self.earlier.pop(key, None)
            log.error("run %s: %s. Moved to %s.", key, error, path)
            return False
        if key not in self._experiment.records:
            try:
                self._experiment.send(entry, artifacts, self._parent(entry))
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                self._experiment.check()
                # Kept in the outbox: a finished run must not be trained again.
                self._refused.add(key)
                log.error(
                    "MLflow refuses %s: %s. Kept in %s; the next start tries again.",
                    *(entry.name, error, self.outbox.folder),
                )
                return False
            # Only now is it certain which file was written to: it may have been replaced meanwhile.
            self._experiment.store.check()
            self._experiment.settle(entry)
        self.outbox.remove(key)
        self._cells.touch(cell_stage(entry.cell, entry.tags))
        return True

    def _parent(self, entry: Entry) -> str:
        """The run id of an entry's parent.

        It is created if neither the store nor the study file has the cell any more.
        """
        tags = {name: text for name, text in entry.params.items() if name != SEED}
        name = entry.name.rpartition("/")[0]
        at = cell_stage(entry.cell, entry.tags)
        return self._experiment.parent(at, {**tags, IN_STUDY: "false"}, {}, name=name)
