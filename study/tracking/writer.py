"""MLflow: a study is an experiment, a cell a parent run, a run a child run.

The driver alone writes, from one thread: entries go from the outbox to MLflow and leave the outbox
only when MLflow has them. A store that vanished is waited for and never made anew.
"""

import getpass
import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from study.core.lock import clock
from study.core.paths import OUTBOX, Home
from study.core.provenance import provenance
from study.planning.runs import Run
from study.planning.stages import CellPlan, Stages
from study.planning.study import Study
from study.planning.study_file import folder_of
from study.tasks.metrics import metric_named
from study.tracking.experiment import Experiment, Place, place_of
from study.tracking.lease import Lease
from study.tracking.outbox import Entry, Outbox, waiting
from study.tracking.schema import cell_tags, flat_parameters
from study.tracking.store import TROUBLE, Store, in_brief
from study.tracking.summary import Record, note, summary

log = logging.getLogger(__name__)

SUMMARY_SECONDS = 3.0  # a summary costs as much as a run; people look every few seconds at most
RETRY_SECONDS = 1.0
OUTBOX_LIMIT = 1000  # entries; a run's predictions can be megabytes
OPENED = "study.opened"  # who opened the study last, with which file, and when


class TrackingWriter:
    """One study's experiment, and the thread that writes to it."""

    def __init__(self, home: Home, study: Study, source: Path | None) -> None:
        """Open the experiment, drain the outbox, and make the cells.

        Args:
            home: Where the outbox is.
            study: The study.
            source: The study file, for MLflow's source column; None where there is none.

        Raises:
            StoreGoneError: If the store has vanished, or a server cannot be used.
            StudyLockedError: If a driver with another home holds the study.
        """
        self._closing = threading.Event()
        self._until = 0.0  # a closing thread tries again for so long, by the monotonic clock
        self._lock = threading.Lock()
        self._status: dict[Place, str] = {}
        self._stale: set[Place] = set()  # cells whose summary is to be written
        self._wanted: dict[Place, CellPlan] = {}
        self._thread = threading.Thread(target=self._write, name="tracking", daemon=True)
        self._store = Store(home.uri, home.artifacts)
        self._experiment = self._store.experiment(study.name)
        self._lease = None
        if home.shared:
            name = study.name
            stop = home.lock(name).request_stop
            self._lease = Lease(self._store, self._experiment, name, stop=stop)
        try:
            self.outbox = Outbox(home.study(study.name) / OUTBOX)
            self.trouble: str | None = None
            self._unwritten: list[tuple[Entry, bytes]] = []  # the disk was full
            self._stuck: dict[str, str] = {}  # entries that cannot be sent, and why
            self._failure: Exception | None = None  # what ended the thread
            self._source = source
            self._provenance = provenance(folder_of(source))
            self._ledger = Experiment(self._store, self._experiment, self._check)
            self._tags = {place: run.data.tags for place, run in self._ledger.cells.items()}
            self._status = {place: run.info.status for place, run in self._ledger.cells.items()}
            self._problems: dict[Place, str] = {}  # why runs are missing
            self._new: list[CellPlan] = []  # cells whose parents are still to be made
            self._came = {e.key: e.record() for e in waiting(self.outbox.folder)}
            scores = {key: record.dev for key, record in self.finished.items()}
            self.stages = Stages(study, scores)
            self.ask(self.stages.plans)
            self._tidy(study.name)
            self._make_cells()
            self._drain()
        except BaseException:
            self.release()
            raise
        self._thread.start()

    # --- for the driver ---

    @property
    def records(self) -> Mapping[str, Record]:
        """What is in MLflow, by key."""
        return self._ledger.records

    @property
    def finished(self) -> dict[str, Record]:
        """What need not run again, by key: what is in MLflow, and what earlier starts left to send.

        A copy: the thread goes on writing.
        """
        return {**self._came, **self.records}

    @property
    def full(self) -> bool:
        """Whether no more runs should start, since too much waits or this driver was replaced.

        Raises:
            Exception: What ended the thread that writes, as from `put`.
        """
        self._hand_over()
        replaced = self._lease is not None and self._lease.lost is not None
        return bool(self._unwritten) or replaced or self._much_waits()

    def _much_waits(self) -> bool:
        try:
            return self.outbox.count() >= OUTBOX_LIMIT
        except OSError:  # the disk does not tell
            return True

    @property
    def waiting(self) -> list[str] | None:
        """Keys of the runs that wait for MLflow; None where the disk does not tell."""
        try:
            return self.outbox.keys()
        except OSError:
            return None

    def put(self, entry: Entry, predictions: bytes) -> None:
        """Hand over a finished run; it is on disk when this returns, unless the disk is full.

        Raises:
            Exception: What ended the thread that writes, if it is not the store's trouble; the run
                is on disk then too.
        """
        stage = {"stage": self.stages.stage(entry.key)}
        whole = replace(entry, tags=entry.tags | self._provenance | stage)
        try:
            self.outbox.put(whole, predictions)
        except OSError as error:
            log.warning("%s: %s. Finished runs stay in memory.", self.outbox.folder, error.strerror)
            with self._lock:
                self._unwritten.append((whole, predictions))
        self._hand_over()

    def ask(self, asked: Iterable[CellPlan]) -> None:
        """Take cells that the study asks for; their parents are made before their runs' rows."""
        with self._lock:
            for each in asked:
                self._wanted[each.key] = each
                self._new.append(each)

    def missing(self, run: Run, reason: str) -> None:
        """Say in a run's cell why the run is missing."""
        place = run.cell.key, self.stages.stage(run.key)
        with self._lock:
            self._problems[place] = f"{run.seed.label}: {reason}"[:500]
            self._stale.add(place)

    def cells_so_far(self) -> list[tuple[str, bool, list[Record]]]:
        """Each final cell's name, whether its metric is better when higher, its finished runs."""
        return [
            (a.cell.name, metric_named(a.cell.task.metric).higher_is_better, self._finished(a))
            for a in list(self._wanted.values())
            if a.stage == "final"
        ]

    def close(self, patience: float) -> int:
        """Write what waits, update all cells, and end the thread.

        Args:
            patience: Seconds to wait for a store in trouble.

        Returns:
            Entries still in the outbox; the next start sends them.

        Raises:
            StudyLockedError: If another driver has taken over.
            Exception: What ended the thread before, if it is not the store's trouble.
        """
        self._end(time.monotonic() + patience)
        self._thread.join(timeout=patience + 10.0)
        self.release()
        if self._unwritten:
            log.error("The disk is full: %d finished runs are lost.", len(self._unwritten))
        late = [self._wanted[place] for place in list(self._stale) if place in self._wanted]
        if behind := sorted(asked.cell.name for asked in late):
            log.warning(
                "%d cells are not up to date in MLflow; the next start sees to them: %s.",
                *(len(behind), ", ".join(behind[:5]) + (", ..." if behind[5:] else "")),
            )
        self._hand_over()
        return len(self.waiting or [])

    def release(self) -> None:
        """End the thread, and let another driver have the study, once nothing is on its way."""
        self._end(0.0)
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        if self._lease is None:
            return
        if self._thread.is_alive():  # a request of it may be under way
            self._lease.lapse()
        else:
            self._lease.release()

    def _end(self, until: float) -> None:
        """Have the thread write what is left, trying until then, and end."""
        with self._lock:
            self._until = until
            if not self._closing.is_set():
                self._closing.set()
                known = list(self._status.items())  # the thread may be adding to it
                whole = {place for place, is_ in known if is_ == "FINISHED"}
                self._stale |= self._wanted.keys() - whole

    # --- writing ---

    def _tidy(self, name: str) -> None:
        """Mark the cells that the file no longer asks for, and say whose they may be."""
        gone = [place for place in self._ledger.made if place not in self._wanted]
        left = [place for place in gone if self._tags[place].get("in_study") != "false"]
        client = self._store.client
        me: dict[str, Any] = {"who": f"{_user()} on {socket.gethostname()}"}
        me["file"] = str(self._source or folder_of(None))
        before = _opened(client.get_experiment(self._experiment).tags.get(OPENED, "")) or me
        if left and any(before[word] != me[word] for word in me):
            log.warning(
                "%d cells of study %r are not in this file. %s opened it last, %s, with %s. If "
                "that is another study, give one of the two another name.",
                *(len(left), name, before["who"], clock(before["when"]), before["file"]),
            )
        now = json.dumps({**me, "when": time.time()})
        self._ledger.writing().set_experiment_tag(self._experiment, OPENED, now)
        for place in left:
            self._ledger.writing().set_tag(self._ledger.made[place], "in_study", "false")
        for run_id in self._ledger.repeated:
            self._ledger.writing().delete_run(run_id)

    def _make_cells(self) -> None:
        while self._new:
            asked = self._new[0]
            tags = {**cell_tags(asked), "in_study": "true"}
            place = asked.key
            new = place not in self._ledger.made
            source = {"mlflow.source.name": str(self._source)} if self._source else {}
            run_id = self._ledger.cell(
                place, tags | source, flat_parameters(asked.cell), name=asked.cell.name
            )
            had = tags if new else self._tags.get(place, {})
            batch = [RunTag(name, value) for name, value in tags.items() if had.get(name) != value]
            if batch:  # the summary is of something else: whoever is killed here does it again
                self._set_status(place, "RUNNING")
                self._ledger.writing().log_batch(run_id, tags=batch)
            with self._lock:
                self._tags[place] = {**had, **tags}
                self._new.pop(0)
                if self._status.get(place) != "FINISHED":
                    self._stale.add(place)

    def _write(self) -> None:
        summarised = 0.0
        while True:
            closing = self._closing.is_set()
            moved = 0
            try:
                moved = self._drain()
                if closing or time.monotonic() - summarised > SUMMARY_SECONDS:
                    self._summarise()
                    summarised = time.monotonic()
                if self._stuck:
                    self.trouble = next(iter(self._stuck.values()))
                else:
                    self._all_well()
            except TROUBLE as error:
                self._in_trouble(error)
            except Exception as error:  # a thread cannot raise to the driver
                log.error("Writing to MLflow has ended; runs wait in %s.", self.outbox.folder)
                self._failure = error
                return
            if closing:
                if not self.trouble or time.monotonic() > self._until:
                    return
                time.sleep(RETRY_SECONDS)
            elif not moved:
                self._closing.wait(RETRY_SECONDS if self.trouble else 0.05)

    def _drain(self) -> int:
        moved = 0
        while True:
            full = self._put_unwritten()
            sent = self._send_waiting()  # even where the disk is full: what leaves makes room
            moved += sent
            if full is None:
                return moved
            if not sent:
                raise full

    def _put_unwritten(self) -> OSError | None:
        """Put what is in memory on the disk; gives the error where that is still full."""
        while self._unwritten:
            try:
                self.outbox.put(*self._unwritten[0])
            except OSError as error:
                return error
            with self._lock:
                self._unwritten.pop(0)
        return None

    def _send_waiting(self) -> int:
        keys = self.outbox.keys()
        self._make_cells()  # a cell is asked for before its runs come, so its parent is there now
        self._stuck = {key: why for key, why in self._stuck.items() if key in keys}
        moved = 0
        for key in sorted(keys, key=self._stuck.__contains__):
            try:
                moved += self._send(key)
            except TROUBLE as error:
                self._check()  # raise where it is the store's trouble; else it is the entry's,
                self._ledger.check()  # and the others can go
                reason = f"run {key} cannot be sent: {in_brief(error)}"
                if key not in self._stuck:
                    log.warning("%s. It waits in %s; others go on.", reason, self.outbox.folder)
                self._stuck[key] = reason
                if self._closing.is_set() and time.monotonic() > self._until:
                    return moved
            else:
                self._stuck.pop(key, None)
        return moved

    def _send(self, key: str) -> bool:
        """Send an entry; False where it was set aside."""
        try:
            entry, artifacts = self.outbox.get(key)
        except ValueError as error:
            return self._set_aside(key, f"run {key}: {error}")
        if key not in self.records:
            try:
                self._ledger.send(entry, artifacts, self._parent(entry))
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                self._ledger.check()
                return self._set_aside(key, f"MLflow refuses {entry.name}: {error}")
            self._store.check()  # only now is it certain which file was written to
            self._ledger.settle(entry)
        self.outbox.remove(key)
        with self._lock:
            self._stale.add(place_of(entry.cell, entry.tags))
        return True

    def _set_aside(self, key: str, reason: str) -> bool:
        place = self.outbox.refuse(key, reason)
        self._came.pop(key, None)
        log.error("%s. It is in %s.", reason, place)
        return False

    def _check(self) -> None:
        """Make sure that a write goes to the right store, and that this driver may write."""
        self._store.check()
        if self._lease is not None:
            self._lease.check()

    def _parent(self, entry: Entry) -> str:
        """The run id of an entry's cell, made where an earlier study file knew it and no store."""
        tags = {name: text for name, text in entry.params.items() if name != "seed"}
        name = entry.name.rpartition("/")[0]
        place = place_of(entry.cell, entry.tags)
        return self._ledger.cell(place, {**tags, "in_study": "false"}, {}, name=name)

    def _finished(self, asked: CellPlan) -> list[Record]:
        return [self.records[run.key] for run in asked.runs if run.key in self.records]

    def _summarise(self) -> None:
        while True:
            with self._lock:
                if not self._stale:
                    return
                place, closing = self._stale.pop(), self._closing.is_set()
            try:
                # Else it is not made yet, or not ours.
                if place in self._wanted and place in self._ledger.made:
                    self._update(place, unfinished="KILLED" if closing else "RUNNING")
            except TROUBLE:
                with self._lock:
                    self._stale.add(place)
                raise

    def _update(self, place: Place, *, unfinished: str) -> None:
        """Write a cell's summary, and its status where runs are missing or not."""
        now, asked = int(time.time() * 1000), self._wanted[place]
        values = summary(self._finished(asked), len(asked.seeds))
        metrics = [Metric(n, v, now, 0) for n, v in values.items() if math.isfinite(v)]
        problem = self._problems.get(place) if values["missing"] else None
        described = {"mlflow.note.content": note(values, problem)}
        if problem or self._tags[place].get("problem"):
            described["problem"] = problem or ""
        tags = [RunTag(name, text) for name, text in described.items()]
        run_id = self._ledger.made[place]
        try:
            self._ledger.writing().log_batch(run_id, metrics=metrics, tags=tags)
        except MlflowException:
            if self._ledger.deleted(run_id):
                self._ledger.forget(place)
                self._status.pop(place, None)
                self.ask([asked])  # made again, with its runs
            raise
        self._tags[place] = {**self._tags[place], **described}
        self._set_status(place, unfinished if values["missing"] else "FINISHED")

    def _set_status(self, place: Place, status: str) -> None:
        if self._status.get(place, "RUNNING") == status:  # as runs are made
            return
        if status == "RUNNING":
            self._ledger.writing().update_run(self._ledger.made[place], status=status)
        else:
            self._ledger.writing().set_terminated(self._ledger.made[place], status)
        self._status[place] = status

    def _hand_over(self) -> None:
        """Raise what ended the thread in the driver's, where it can be dealt with."""
        if self._failure is not None:
            raise self._failure

    def _in_trouble(self, error: Exception) -> None:
        reason = in_brief(error)
        if self.trouble is None:
            log.warning("MLflow: %s. Finished runs wait in %s.", reason, self.outbox.folder)
        self.trouble = reason

    def _all_well(self) -> None:
        if self.trouble is not None:
            log.warning("MLflow is back.")
        self.trouble = None


def _opened(text: str) -> dict[str, Any] | None:
    with suppress(ValueError, KeyError, TypeError):  # anybody can write a tag
        data = json.loads(text)
        return {"who": str(data["who"]), "file": str(data["file"]), "when": float(data["when"])}
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())
