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
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking._tracking_service.utils import _get_store
from scipy import stats
from sqlalchemy.exc import SQLAlchemyError

from study.home import Home
from study.metrics import metric_named
from study.models import describe
from study.outbox import Entry, Outbox
from study.study import Cell, Study
from study.study import Run as StudyRun

log = logging.getLogger(__name__)

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
TROUBLE = (MlflowException, SQLAlchemyError, OSError)


class StoreGone(RuntimeError):
    """The tracking store is not where it was, or is another one."""


@dataclass(frozen=True)
class Record:
    """What the driver remembers of a run that MLflow has.

    Attributes:
        run_id: MLflow's id.
        cell: The cell's key.
        outcome: `completed` or `diverged`.
        collapsed: Whether the run is no better than a constant answer.
        dev: NaN where diverged.
        test: NaN where diverged.
        seconds: The worker's time.
    """

    run_id: str
    cell: str
    outcome: str
    collapsed: bool
    dev: float
    test: float
    seconds: float


class Store:
    """A tracking store that is checked before and after each use, where it is a SQLite file."""

    def __init__(self, home: Home) -> None:
        """Open it; the default store is made where there never was one.

        Raises:
            StoreGone: If the default store has been here and is not now.
        """
        self.uri = home.uri
        self._file = _sqlite_file(self.uri)
        if self._file is not None:
            marker = home.root / "store-id"
            if not self._file.exists():
                if self.uri == f"sqlite:///{home.root / 'mlflow.db'}" and marker.exists():
                    raise StoreGone(
                        f"the store {self._file} is gone. Bring it back, or remove {marker} to "
                        "start an empty one."
                    )
                _create(self._file)
                marker.write_text(uuid.uuid4().hex + "\n")
            # Never creates a file, unlike the plain address.
            self.uri = f"sqlite:///file:{self._file}?mode=rw&uri=true"
        self._inode = self._seen()
        self.client = MlflowClient(tracking_uri=self.uri)

    def check(self) -> None:
        """Make sure that the next transaction goes to the store that was opened.

        Raises:
            StoreGone: If it does not.
        """
        if self._file is None or self._seen() == self._inode:
            return
        # Pooled connections still write to the file that was moved away.
        _get_store(self.uri).engine.dispose()
        if self._seen() is None:
            raise StoreGone(f"the store {self._file} is gone; waiting for it to come back")
        raise StoreGone(f"another file is at {self._file}; waiting for the store to come back")

    def _seen(self) -> tuple[int, int] | None:
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


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
        self._source = source
        self._provenance = provenance(Path(source).parent)
        self._experiment = self._open(home, study.name)
        self._cells: dict[str, str] = {}  # key: run id of the parent
        self._problems: dict[str, str] = {}  # cell's key: why runs are missing
        self._stale: set[str] = set()
        self._expected = {cell.key: len(study.each_seed()) for cell in study.cells()}
        self._names = {
            cell.key: (cell.name, metric_named(cell.task.metric).higher_is_better)
            for cell in study.cells()
        }
        self._partial: dict[str, str] = {}  # run key: run id of a write that was cut short
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._read()
        self._make_cells(study)
        self._drain()
        self._thread = threading.Thread(target=self._write, name="tracking", daemon=True)
        self._thread.start()

    # --- for the driver ---

    def put(self, entry: Entry, predictions: bytes) -> None:
        """Hand over a finished run; it is on disk when this returns."""
        self.outbox.put(replace(entry, tags=entry.tags | self._provenance), predictions)

    def missing(self, run: StudyRun, reason: str) -> None:
        """Say in a run's cell why the run is missing."""
        with self._lock:
            self._problems[run.cell.key] = f"{run.seed.label}: {reason}"[:500]
            self._stale.add(run.cell.key)

    def cells_so_far(self) -> list[tuple[str, bool, list[Record]]]:
        """Each cell's name, whether its metric is better when higher, and its finished runs."""
        finished: dict[str, list[Record]] = {key: [] for key in self._names}
        for record in list(self.records.values()):
            if record.cell in finished:
                finished[record.cell].append(record)
        return [(*self._names[key], records) for key, records in finished.items()]

    def close(self, patience: float) -> int:
        """Write what waits, update all cells, and end the thread.

        Args:
            patience: Seconds to wait for a store in trouble.

        Returns:
            Entries still in the outbox; the next start sends them.
        """
        until = time.monotonic() + patience
        while self.outbox.keys() and time.monotonic() < until and self._thread.is_alive():
            time.sleep(0.05)
        self._closing.set()
        self._thread.join(timeout=max(RETRY_SECONDS * 2, patience))
        if not self.trouble:
            with suppress(StoreGone, *TROUBLE):
                self._summarise(set(self._expected), closing=True)
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
            self._cells[run.data.tags["cell"]] = run.info.run_id
        for run in self._search("tags.kind = 'run'"):
            key = run.data.tags["key"]
            if run.info.status == "FINISHED":
                self.records[key] = _record(run)
            else:
                self._partial[key] = run.info.run_id

    def _search(self, filter_string: str) -> Iterable[Run]:
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

    def _make_cells(self, study: Study) -> None:
        client = self._store.client
        cells = {cell.key: cell for cell in study.cells()}
        for key, run_id in self._cells.items():
            client.set_tag(run_id, "in_study", str(key in cells).lower())
        for key, cell in cells.items():
            tags = {**_cell_tags(cell), "seeds": study.seeds_text(), "in_study": "true"}
            if key not in self._cells:
                tags |= {"mlflow.source.name": self._source}
                run = client.create_run(self._experiment, tags=tags, run_name=cell.name)
                self._cells[key] = run.info.run_id
                params = [Param(name, value) for name, value in _flat(cell).items()]
                client.log_batch(run.info.run_id, params=params)
            else:
                batch = [RunTag(name, value) for name, value in tags.items()]
                client.log_batch(self._cells[key], tags=batch)
            self._stale.add(key)

    def _write(self) -> None:
        summarised = 0.0
        while True:
            closing = self._closing.is_set()
            try:
                moved = self._drain()
                if time.monotonic() - summarised > SUMMARY_SECONDS:
                    with self._lock:
                        stale, self._stale = self._stale, set()
                    self._summarise(stale, closing=False)
                    summarised = time.monotonic()
                self._all_well()
            except (StoreGone, *TROUBLE) as error:
                self._in_trouble(error)
                moved = 0
            if closing:
                return
            if not moved:
                self._closing.wait(RETRY_SECONDS if self.trouble else 0.05)

    def _drain(self) -> int:
        keys = self.outbox.keys()
        for key in keys:
            self._store.check()
            entry, artifacts = self.outbox.get(key)
            if key not in self.records:
                record = self._send(entry, artifacts)
                self._store.check()  # only now is it certain which file was written to
                self.records[key] = record
            self.outbox.remove(key)
            with self._lock:
                self._stale.add(entry.cell)
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
                "mlflow.parentRunId": self._cells[entry.cell],
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
        get_artifact_repository(run.info.artifact_uri, self._store.uri).log_artifacts(
            str(artifacts)
        )
        client.set_terminated(run_id, "FINISHED", end_time=entry.ended)
        del self._partial[entry.key]
        values = {name: value for name, value, _ in entry.metrics}
        return _made_record(run_id, {**entry.tags, "cell": entry.cell}, values)

    def _summarise(self, cells: Iterable[str], *, closing: bool) -> None:
        client, now = self._store.client, int(time.time() * 1000)
        by_cell: dict[str, list[Record]] = {key: [] for key in cells if key in self._expected}
        for record in self.records.values():
            if record.cell in by_cell:
                by_cell[record.cell].append(record)
        for key, records in by_cell.items():
            self._store.check()
            values = summary(records, self._expected[key])
            metrics = [
                Metric(n, v, now, len(records)) for n, v in values.items() if math.isfinite(v)
            ]
            problem = self._problems.get(key) if values["missing"] else None
            tags = [
                RunTag("problem", problem or ""),
                RunTag("mlflow.note.content", _note(values, problem)),
            ]
            client.log_batch(self._cells[key], metrics=metrics, tags=tags)
            status = "RUNNING"
            if not values["missing"]:
                status = "FINISHED"
            elif closing:
                status = "KILLED"
            if status == "RUNNING":
                client.update_run(self._cells[key], status=status)
            else:
                client.set_terminated(self._cells[key], status)

    def _in_trouble(self, error: Exception) -> None:
        reason = str(error).splitlines()[0]
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


def summary(records: list[Record], expected: int) -> dict[str, float]:
    """A cell in numbers, as its parent run shows it.

    Args:
        records: The cell's finished runs.
        expected: Runs that the study asks for.

    Returns:
        `n`, `missing`, `diverged`, `collapsed`, and per split mean, sd (n - 1) and the 95 % t
        interval of the mean; NaN where n is too small.
    """
    completed = [record for record in records if record.outcome == "completed"]
    values = {
        "n": float(len(completed)),
        "missing": float(max(0, expected - len(records))),
        "diverged": float(len(records) - len(completed)),
        "collapsed": float(sum(record.collapsed for record in completed)),
    }
    splits: tuple[Literal["dev", "test"], ...] = ("dev", "test")
    for split in splits:
        scores = np.array([getattr(record, split) for record in completed])
        n = len(scores)
        mean = float(scores.mean()) if n else math.nan
        sd = float(scores.std(ddof=1)) if n > 1 else math.nan
        half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n) if n > 1 else math.nan
        values |= {f"{split}_mean": mean, f"{split}_sd": sd}
        values |= {f"{split}_low": mean - half, f"{split}_high": mean + half}
    if completed:
        values["seconds"] = float(np.mean([record.seconds for record in completed]))
    return values


def _note(values: dict[str, float], problem: str | None) -> str:
    counts = ", ".join(f"{int(values[k])} {k}" for k in ("missing", "diverged", "collapsed"))
    text = f"n = {int(values['n'])} seeds ({counts})"
    if math.isfinite(values["test_low"]):
        text += (
            f". Test {values['test_mean']:.4f} ± {values['test_sd']:.4f} (sd over seeds), "
            f"95 % interval of the mean {values['test_low']:.4f} to {values['test_high']:.4f}"
        )
    return f"{text}.\n\nMissing: {problem}" if problem else f"{text}."


def _cell_tags(cell: Cell) -> dict[str, str]:
    metric = cell.task.metric
    return {
        "kind": "cell",
        "cell": cell.key,
        "task": cell.task.name,
        "model": cell.model.name,
        "technique": cell.technique.title,
        "configuration": cell.label,
        "metric": metric.rpartition(":")[2],
        **{f"model.{name}": value for name, value in describe(cell.model).items()},
    }


def _flat(cell: Cell) -> dict[str, str]:
    flat = {f"recipe.{name}": value for name, value in cell.recipe.model_dump().items()}
    flat |= {f"technique.{name}": value for name, value in cell.technique.canonical().items()}
    return {name: str(value) for name, value in flat.items()}


def _record(run: Run) -> Record:
    return _made_record(run.info.run_id, run.data.tags, run.data.metrics)


def _made_record(run_id: str, tags: dict[str, str], values: dict[str, Any]) -> Record:
    return Record(
        run_id,
        tags["cell"],
        tags["outcome"],
        bool(tags["collapsed"]),
        values.get("dev", math.nan),
        values.get("test", math.nan),
        values.get("seconds", math.nan),
    )


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _create(file: Path) -> None:
    """An empty MLflow store, in WAL mode so that the UI reads while the driver writes."""
    import sqlite3

    file.parent.mkdir(parents=True, exist_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    _get_store(f"sqlite:///{file}").engine.dispose()
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
