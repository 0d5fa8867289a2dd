"""MLflow: a study is an experiment, a cell a parent run, a run a child run.

The driver alone writes, from one thread: entries go from the outbox to MLflow and leave the outbox
only when MLflow has them. A store that vanished is waited for and never made anew.
"""

import json
import logging
import math
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy.exc import SQLAlchemyError

from study.home import Home
from study.metrics import metric_named
from study.models import describe
from study.outbox import Entry, Outbox
from study.stages import Asked, Stage, Stages
from study.store import Store, StoreGone
from study.study import Cell, Run, Study
from study.summary import Record, note, record_of, summary
from study.techniques.base import parts_of

log = logging.getLogger(__name__)

Place = tuple[str, Stage]  # a cell's key and its stage: what a parent run stands for

SUMMARY_SECONDS = 3.0  # a summary costs as much as a run; people look every few seconds at most
RETRY_SECONDS = 1.0
VIEW = "cells"  # the key of a view that MLflow's UI opens on, see `study ui`
CELLS_VIEW = {
    "searchFilter": "tags.kind = 'cell'",
    "orderByKey": "metrics.`dev_mean`",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "selectedColumns": [
        f"metrics.`{name}`"
        for name in ("n", "dev_mean", "test_mean", "test_sd", "test_low", "test_high")
        + ("collapsed", "diverged", "missing")
    ],
}
TROUBLE = (StoreGone, MlflowException, SQLAlchemyError, OSError)


class Tracking:
    """One study's experiment, and the thread that writes to it."""

    def __init__(self, home: Home, study: Study, source: str) -> None:
        """Open the experiment, drain the outbox, and make the cells.

        Args:
            home: Where the outbox is.
            study: The study.
            source: The study file, for MLflow's source column.

        Raises:
            StoreGone: If the store has vanished.
        """
        self._store = Store(home)
        self.outbox = Outbox(home.study(study.name) / "outbox")
        self.records: dict[str, Record] = {}
        self.trouble: str | None = None
        self._failure: Exception | None = None  # what ended the thread
        self._source = source
        self._provenance = provenance(Path(source).parent)
        self._experiment = self._open(home, study.name)
        self._cells: dict[Place, str] = {}  # run id of the parent
        self._tags: dict[Place, dict[str, str]] = {}  # of the parents that were there at the start
        self._whole: set[Place] = set()  # cells whose parent is FINISHED, with its last summary
        self._problems: dict[Place, str] = {}  # why runs are missing
        self._troubled: set[Place] = set()  # cells whose parent says why runs are missing
        self._stale: set[Place] = set()
        self._wanted: dict[Place, Asked] = {}
        self._new: list[Asked] = []  # cells whose parents are still to be made
        self._partial: dict[str, str] = {}  # run key: run id of a write that was cut short
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._read()
        scores = {key: record.dev for key, record in self.records.items()}
        waiting = self.outbox.keys()
        scores |= {key: self.outbox.get(key)[0].record().dev for key in waiting}
        self.stages = Stages(study, scores)
        self.ask(self.stages.asked)
        for place, run_id in self._cells.items():
            if place not in self._wanted and self._tags[place].get("in_study") != "false":
                self._store.client.set_tag(run_id, "in_study", "false")
        self._make_cells()
        self._drain()
        self._thread = threading.Thread(target=self._write, name="tracking", daemon=True)
        self._thread.start()

    # --- for the driver ---

    def put(self, entry: Entry, predictions: bytes) -> None:
        """Hand over a finished run; it is on disk when this returns.

        Raises:
            Exception: What ended the thread that writes, if it is not the store's trouble; the run
                is on disk then too.
        """
        stage = {"stage": self.stages.stage(entry.key)}
        self.outbox.put(replace(entry, tags=entry.tags | self._provenance | stage), predictions)
        self._hand_over()

    def ask(self, asked: Iterable[Asked]) -> None:
        """Take cells that the study asks for; their parents are made before their runs' rows."""
        with self._lock:
            for each in asked:
                self._wanted[each.place] = each
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
            Exception: What ended the thread before, if it is not the store's trouble.
        """
        until = time.monotonic() + patience
        while self.outbox.keys() and time.monotonic() < until and self._thread.is_alive():
            time.sleep(0.05)
        self._closing.set()
        self._thread.join(timeout=max(10.0, patience))
        self._hand_over()
        return len(self.outbox.keys())

    # --- reading ---

    def _open(self, home: Home, name: str) -> str:
        client = self._store.client
        experiment = client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        if experiment is not None:
            return str(experiment.experiment_id)
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            f"mlflow.sharedViewState.{VIEW}": json.dumps(CELLS_VIEW),
        }
        local = self._store.uri.startswith("sqlite")
        where = (home.artifacts / name).as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=where, tags=tags))

    def _read(self) -> None:
        for run in self._search("tags.kind = 'cell'"):
            place = _place(run.data.tags["cell"], run.data.tags)
            self._cells[place] = run.info.run_id
            self._tags[place] = dict(run.data.tags)
            if run.info.status == "FINISHED":
                self._whole.add(place)
            if run.data.tags.get("problem"):
                self._troubled.add(place)
        for run in self._search("tags.kind = 'run'"):
            key = run.data.tags["key"]
            if run.info.status == "FINISHED":
                self.records[key] = record_of(run.data.tags, run.data.metrics)
            else:
                self._partial[key] = run.info.run_id

    def _search(self, filter_string: str) -> Iterable[MlflowRun]:
        token = None
        while True:
            page = self._store.client.search_runs(
                [self._experiment], filter_string, max_results=5000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    # --- writing ---

    def _make_cells(self) -> None:
        client = self._store.client
        while self._new:
            asked = self._new[0]
            self._store.check()
            tags = {**_cell_tags(asked), "in_study": "true"}
            if asked.place not in self._cells:
                tags |= {"mlflow.source.name": self._source}
                run = client.create_run(self._experiment, tags=tags, run_name=asked.cell.name)
                self._cells[asked.place] = run.info.run_id
                params = [Param(name, value) for name, value in _flat(asked.cell).items()]
                client.log_batch(run.info.run_id, params=params)
            else:
                had = self._tags.get(asked.place, {})
                batch = [RunTag(n, value) for n, value in tags.items() if had.get(n) != value]
                if batch:  # the summary is of something else: whoever is killed here does it again
                    self._whole.discard(asked.place)
                    client.update_run(self._cells[asked.place], status="RUNNING")
                    client.log_batch(self._cells[asked.place], tags=batch)
                    self._tags[asked.place] = had | tags
            with self._lock:
                self._new.pop(0)
                if asked.place not in self._whole:
                    self._stale.add(asked.place)

    def _write(self) -> None:
        summarised = 0.0
        while True:
            closing = self._closing.is_set()
            moved = 0
            try:
                moved = self._drain()
                if closing:
                    with self._lock:
                        due = self._stale | (self._wanted.keys() - self._whole)
                    self._summarise(due, closing=True)
                elif time.monotonic() - summarised > SUMMARY_SECONDS:
                    with self._lock:
                        due, self._stale = self._stale, set()
                    try:
                        self._summarise(due, closing=False)
                    except TROUBLE:
                        with self._lock:
                            self._stale |= due
                        raise
                    summarised = time.monotonic()
                self._all_well()
            except TROUBLE as error:
                self._in_trouble(error)
            except Exception as error:  # a thread cannot raise to the driver
                log.error("Writing to MLflow failed; runs wait in %s.", self.outbox.folder)
                self._failure = error
                return
            if closing:
                return
            if not moved:
                self._closing.wait(RETRY_SECONDS if self.trouble else 0.05)

    def _drain(self) -> int:
        keys = self.outbox.keys()
        self._make_cells()  # a cell is asked for before its runs come, so its parent is there now
        for key in keys:
            self._store.check()
            entry, artifacts = self.outbox.get(key)
            if key not in self.records:
                try:
                    record = self._send(entry, artifacts)
                except MlflowException as error:
                    if error.error_code != "INVALID_PARAMETER_VALUE":
                        raise
                    place = self.outbox.refuse(key, str(error))
                    log.error("MLflow refuses %s: %s. It is in %s.", entry.name, error, place)
                    continue
                self._store.check()  # only now is it certain which file was written to
                self.records[key] = record
            self.outbox.remove(key)
            with self._lock:
                self._stale.add(_place(entry.cell, entry.tags))
        return len(keys)

    def _send(self, entry: Entry, artifacts: Path) -> Record:
        """Write a run; what an earlier attempt wrote of it is found and completed."""
        client = self._store.client
        if self.trouble and entry.key not in self._partial:
            for run in self._search(f"tags.key = '{entry.key}'"):
                self._partial[entry.key] = run.info.run_id
        run_id = self._partial.get(entry.key)
        if run_id is None:
            tags = {
                **entry.tags,
                "kind": "run",
                "key": entry.key,
                "cell": entry.cell,
                "mlflow.parentRunId": self._parent(entry),
                "mlflow.source.name": self._source,
            }
            run = client.create_run(
                self._experiment, start_time=entry.started, tags=tags, run_name=entry.name
            )
        else:
            run = client.get_run(run_id)
        run_id = self._partial[entry.key] = run.info.run_id
        metrics = [Metric(name, value, entry.ended, step) for name, value, step in entry.metrics]
        params = [Param(name, value) for name, value in entry.params.items()]
        client.log_batch(run_id, metrics=metrics, params=params)
        self._send_artifacts(run, artifacts)
        client.set_terminated(run_id, "FINISHED", end_time=entry.ended)
        del self._partial[entry.key]
        return entry.record()

    def _send_artifacts(self, run: MlflowRun, artifacts: Path) -> None:
        place = get_artifact_repository(run.info.artifact_uri, self._store.uri)
        try:
            place.log_artifacts(str(artifacts))
        except TROUBLE:
            raise
        except Exception as error:  # each object store raises its own client's
            raise MlflowException(f"artifacts: {error}") from error

    def _parent(self, entry: Entry) -> str:
        """The run id of an entry's cell, made where an earlier study file knew it and no store."""
        place = _place(entry.cell, entry.tags)
        if place not in self._cells:
            tags = {"kind": "cell", "cell": entry.cell, "stage": place[1], "in_study": "false"}
            tags |= {name: text for name, text in entry.params.items() if name != "seed"}
            name = entry.name.rpartition("/")[0]
            run = self._store.client.create_run(self._experiment, tags=tags, run_name=name)
            self._cells[place] = run.info.run_id
        return self._cells[place]

    def _finished(self, asked: Asked) -> list[Record]:
        return [self.records[run.key] for run in asked.runs if run.key in self.records]

    def _summarise(self, places: Iterable[Place], *, closing: bool) -> None:
        client, now = self._store.client, int(time.time() * 1000)
        for place in places:
            if place not in self._wanted:
                continue
            self._store.check()
            asked = self._wanted[place]
            values = summary(self._finished(asked), len(asked.seeds))
            metrics = [Metric(n, v, now, 0) for n, v in values.items() if math.isfinite(v)]
            problem = self._problems.get(place) if values["missing"] else None
            described = {"mlflow.note.content": note(values, problem)}
            if problem or place in self._troubled:
                described["problem"] = problem or ""
                self._troubled.add(place)
            tags = [RunTag(name, text) for name, text in described.items()]
            client.log_batch(self._cells[place], metrics=metrics, tags=tags)
            if not values["missing"] or closing:
                status = "KILLED" if values["missing"] else "FINISHED"
                client.set_terminated(self._cells[place], status)
                if status == "FINISHED":
                    self._whole.add(place)
            else:
                client.update_run(self._cells[place], status="RUNNING")
                self._whole.discard(place)

    def _hand_over(self) -> None:
        """Raise what ended the thread in the driver's, where it can be dealt with."""
        if self._failure is not None:
            raise self._failure

    def _in_trouble(self, error: Exception) -> None:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if self.trouble is None:
            log.warning("MLflow: %s. Finished runs wait in %s.", reason, self.outbox.folder)
        self.trouble = reason

    def _all_well(self) -> None:
        if self.trouble is not None:
            log.warning("MLflow is back.")
        self.trouble = None


def provenance(folder: Path) -> dict[str, str]:
    """The commit of the repository that holds a folder, and whether its files differ from it.

    Returns:
        `commit` and `dirty`; empty where there is no repository.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
    return {
        "commit": commit[:12],
        "dirty": str(dirty).lower(),
        "mlflow.source.git.commit": commit,
    }


def _place(cell: str, tags: Mapping[str, str]) -> Place:
    """A cell's key with its stage; before there were stages, all was final."""
    return cell, "tune" if tags.get("stage") == "tune" else "final"


def _cell_tags(asked: Asked) -> dict[str, str]:
    cell = asked.cell
    metric = cell.task.metric
    return {
        "kind": "cell",
        "cell": cell.key,
        "task": cell.task.name,
        "model": cell.model.name,
        "technique": cell.technique.title,
        "configuration": cell.label,
        "metric": metric.rpartition(":")[2],
        "task_type": cell.task.task_type,
        "stage": asked.stage,
        "seeds": asked.seeds_text,
        "tried": str(asked.tried),
        "search": asked.search,
        **{f"model.{name}": value for name, value in describe(cell.model).items()},
    }


def _flat(cell: Cell) -> dict[str, str]:
    """What the cell trains with: the recipe after the technique's hook, and every value set."""
    flat: dict[str, Any] = {}
    for name, value in cell.technique.recipe(cell.recipe).model_dump().items():
        flat[f"recipe.{name}"] = value
    for part in parts_of(cell.technique):
        flat |= {f"{part.title}.{name}": getattr(part, name) for name in type(part).model_fields}
    return {name: str(value) for name, value in flat.items()}
