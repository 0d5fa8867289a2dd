"""One study's MLflow experiment: the runs that it has, and writes that can be repeated.

Whatever is written can be found again by the key of a run, or by the cell and stage of a parent
run. So a write that was interrupted is completed, and a request whose response was lost is not
repeated.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from study.planning.stages import Stage
from study.tracking import schema
from study.tracking.entry import Entry, Record, record_of
from study.tracking.store import Store, StoreGoneError

CellStage = tuple[str, Stage]  # a cell's key and its stage: what a parent run stands for

OBJECT_STORE_ERRORS = [
    ("boto3.exceptions", "Boto3Error"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
]


def cell_stage(cell: str, tags: Mapping[str, str]) -> CellStage:
    """A cell's key with its stage; stores from before there were stages have only final runs."""
    return cell, "tune" if tags.get(schema.STAGE) == "tune" else "final"


class Experiment:
    """The runs of an experiment, and the writes to it.

    Attributes:
        id: MLflow's experiment id.
        cells: The parent run of each cell, as it was when the experiment was read.
        parents: Run id of each cell's parent run.
        records: Finished runs by key.
        partial: Run id, by key, of runs whose write was interrupted.
        duplicates: Run ids of older parents and finished runs of which there is a newer one; they
            were deleted, created again, and then restored.
    """

    def __init__(self, store: Store, experiment: str, may_write: Callable[[], object]) -> None:
        """Read all runs of the experiment.

        Args:
            store: The experiment's store.
            experiment: Its id.
            may_write: Called before each write; raises if this process may not write.
        """
        self.store, self.id, self._may_write = store, experiment, may_write
        self.cells: dict[CellStage, MlflowRun] = {}
        self.parents: dict[CellStage, str] = {}
        self.records: dict[str, Record] = {}
        self.partial: dict[str, str] = {}
        self.duplicates: list[str] = []
        self._children: dict[CellStage, dict[str, str]] = {}  # parent id by id of finished runs
        self._undescribed: set[CellStage] = set()  # parents without parameters
        self._unsure: set[str] = set()  # filters of runs whose creation got no response
        self._read_cells()
        self._read_runs()

    def _read_cells(self) -> None:
        for run in self.search(schema.CELLS):
            at = cell_stage(run.data.tags[schema.CELL], run.data.tags)
            if at in self.parents:
                self.duplicates.append(run.info.run_id)
                continue
            self.cells[at], self.parents[at] = run, run.info.run_id
            if not run.data.params:
                self._undescribed.add(at)

    def _read_runs(self) -> None:
        for run in self.search(schema.RUNS):
            tags = run.data.tags
            key = tags[schema.KEY]
            if run.info.status != "FINISHED":
                self.partial[key] = run.info.run_id
                continue
            if key in self.records:
                self.duplicates.append(run.info.run_id)
                continue
            self.records[key] = record_of(tags, run.data.metrics)
            children = self._children.setdefault(cell_stage(tags[schema.CELL], tags), {})
            children[run.info.run_id] = tags.get(schema.PARENT, "")

    def writing(self) -> MlflowClient:
        """MLflow's client for one write, after a check that this process may write."""
        self._may_write()
        return self.store.client

    def search(self, filter_string: str) -> Iterator[MlflowRun]:
        """The runs that are not deleted, page by page."""
        return self.store.runs(self.id, filter_string)

    def parent(
        self, at: CellStage, tags: Mapping[str, str], params: Mapping[str, str], *, name: str
    ) -> str:
        """The run id of a cell's parent run, which is created if absent.

        Creating it, logging its parameters and attaching its runs are separate steps: a call after
        an interruption does what is left, and repeats nothing.

        Args:
            at: The cell and stage.
            tags: Tags of a new parent, in addition to those that identify it.
            params: Parameters of a parent that has none yet.
            name: Name of a new parent.
        """
        if at not in self.parents:
            identity = {schema.KIND: schema.CELL_KIND, schema.CELL: at[0], schema.STAGE: at[1]}
            self.parents[at] = self._find_or_create(identity, tags, name=name).info.run_id
            self._undescribed.add(at)
        parent = self.parents[at]
        if params and at in self._undescribed:
            batch = [Param(name, schema.storable(value)) for name, value in params.items()]
            self.writing().log_batch(parent, params=batch)
            self._undescribed.discard(at)
        children = self._children.get(at, {})
        for child in [child for child, other in children.items() if other != parent]:
            self._attach(child, parent, children)
        return parent

    def forget(self, at: CellStage) -> None:
        """Note that a cell's parent run was deleted."""
        del self.parents[at]
        self._undescribed.discard(at)

    def send(self, entry: Entry, artifacts: Path, parent: str) -> None:
        """Write a run, or complete what an earlier attempt wrote of it.

        Args:
            entry: The run.
            artifacts: A folder of files.
            parent: Run id of its cell's parent run.
        """
        identity = {schema.KIND: schema.RUN_KIND, schema.KEY: entry.key}
        run_id = self.partial.get(entry.key)
        if run_id is None:
            tags = {**entry.tags, schema.CELL: entry.cell, schema.PARENT: parent}
            run = self._find_or_create(identity, tags, name=entry.name, started=entry.started)
        else:
            run = self.store.client.get_run(run_id)
        run_id = self.partial[entry.key] = run.info.run_id
        metrics = [
            Metric(schema.metric_key(name), value, entry.ended, step)
            for name, value, step in entry.metrics
        ]
        params = [Param(name, schema.storable(text)) for name, text in entry.params.items()]
        tag = RunTag(schema.PARENT, parent)  # an earlier attempt may have had another parent
        try:
            self.writing().log_batch(run_id, metrics=metrics, params=params, tags=[tag])
            self._send_artifacts(run, artifacts)
            self.writing().set_terminated(run_id, "FINISHED", end_time=entry.ended)
        except MlflowException as error:
            if not self.deleted(run_id):
                raise
            del self.partial[entry.key]
            raise StoreGoneError(
                f"{entry.name} was deleted while it was being written; trying again"
            ) from error

    def settle(self, entry: Entry) -> None:
        """Note that a run is certainly in the store."""
        self.records[entry.key] = entry.record()
        at = cell_stage(entry.cell, entry.tags)
        self._children.setdefault(at, {})[self.partial.pop(entry.key)] = self.parents[at]

    def deleted(self, run_id: str) -> bool:
        """Whether a run was deleted, for instance in MLflow's UI.

        Raises:
            StoreGoneError: If the whole experiment was deleted.
        """
        self.check()
        try:
            return self.store.lifecycle(run_id) in ("deleted", "")
        except MlflowException:
            return False

    def check(self) -> None:
        """Make sure that the experiment was not deleted.

        Raises:
            StoreGoneError: If it was.
        """
        experiment = self.store.client.get_experiment(self.id)
        if experiment.lifecycle_stage == "deleted":
            raise StoreGoneError(
                "the experiment was deleted; restore it in MLflow, or stop the study and run it "
                "again, which restores it"
            )

    def _attach(self, child: str, parent: str, children: dict[str, str]) -> None:
        """Make a run the child of a parent, unless the run was deleted meanwhile."""
        try:
            self.writing().set_tag(child, schema.PARENT, parent)
        except MlflowException:
            if not self.deleted(child):
                raise
            del children[child]
        else:
            children[child] = parent

    def _find_or_create(
        self,
        identity: Mapping[str, str],
        tags: Mapping[str, str],
        *,
        name: str,
        started: int | None = None,
    ) -> MlflowRun:
        """A new run, or the one that an earlier attempt created without getting a response.

        Args:
            identity: Tags that no other run has.
            tags: Its other tags.
            name: Its name in MLflow.
            started: Unix time in milliseconds; None takes now.
        """
        # MLflow has no unique tags and no idempotent `create_run`. A search costs as much as a
        # creation, so it is done only after an attempt whose outcome is unknown.
        only = " and ".join(f"tags.{tag} = '{value}'" for tag, value in identity.items())
        if only in self._unsure:
            for run in self.search(only):
                self._unsure.discard(only)
                return run
        client = self.writing()
        self._unsure.add(only)
        run = client.create_run(
            self.id,
            start_time=started,
            tags={name: schema.storable(text) for name, text in {**tags, **identity}.items()},
            run_name=schema.run_name(name),
        )
        self._unsure.discard(only)
        return run

    def _send_artifacts(self, run: MlflowRun, artifacts: Path) -> None:
        repository = get_artifact_repository(run.info.artifact_uri, self.store.uri)
        try:
            for file in sorted(artifacts.iterdir()):
                self._may_write()
                repository.log_artifact(str(file))
        except _object_store_errors() as error:
            raise MlflowException(f"artifacts: {error}") from error


def _object_store_errors() -> tuple[type[Exception], ...]:
    """The errors of those object stores' clients that have been imported."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in OBJECT_STORE_ERRORS]
    return tuple(error for error in found if error is not None)
