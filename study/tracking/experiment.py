"""One study's experiment: the cells and runs that it has, and writes that can be repeated.

Whatever is written is found again by the key of a run, or by the cell and stage of a parent. So a
write that was cut short is completed, and one whose answer was lost is not done twice.
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
from study.tracking.outbox import Entry
from study.tracking.store import Store, StoreGoneError
from study.tracking.summary import Record, record_of

Place = tuple[str, Stage]  # a cell's key and its stage: what a parent run stands for

OBJECT_STORE_ERRORS = [
    ("boto3.exceptions", "Boto3Error"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
]


def place_of(cell: str, tags: Mapping[str, str]) -> Place:
    """A cell's key with its stage; before there were stages, all was final."""
    return cell, "tune" if tags.get("stage") == "tune" else "final"


class Experiment:
    """What an experiment has, and how it gets more.

    Attributes:
        cells: The parent of each cell, as it was when it was read.
        made: Run id of each cell's parent.
        records: Finished runs by key.
        partial: Run id, by key, of writes that were cut short.
        repeated: Run ids of older cells and finished runs that another one stands for; they were
            deleted, made again, and then restored.
    """

    def __init__(self, store: Store, experiment: str, may_write: Callable[[], object]) -> None:
        """Read what is there.

        Args:
            store: Where the experiment is.
            experiment: Its id.
            may_write: Called before each write; raises where this process may not.
        """
        self.store, self.experiment, self._may_write = store, experiment, may_write
        self.cells: dict[Place, MlflowRun] = {}
        self.made: dict[Place, str] = {}
        self.records: dict[str, Record] = {}
        self.partial: dict[str, str] = {}
        self.repeated: list[str] = []
        self._children: dict[Place, dict[str, str]] = {}  # finished runs, and what each hangs below
        self._bare: set[Place] = set()  # cells without parameters
        self._unsure: set[str] = set()  # filters of runs that may have been made, or not
        for run in self.search("tags.kind = 'cell'"):
            place = place_of(run.data.tags["cell"], run.data.tags)
            if place in self.made:
                self.repeated.append(run.info.run_id)
                continue
            self.cells[place], self.made[place] = run, run.info.run_id
            if not run.data.params:
                self._bare.add(place)
        for run in self.search("tags.kind = 'run'"):
            tags = run.data.tags
            if run.info.status != "FINISHED":
                self.partial[tags["key"]] = run.info.run_id
                continue
            if tags["key"] in self.records:
                self.repeated.append(run.info.run_id)
                continue
            self.records[tags["key"]] = record_of(tags, run.data.metrics)
            place = place_of(tags["cell"], tags)
            below = self._children.setdefault(place, {})
            below[run.info.run_id] = tags.get("mlflow.parentRunId", "")

    def writing(self) -> MlflowClient:
        """MLflow's client, for one write, now that it is certain that there may be one."""
        self._may_write()
        return self.store.client

    def search(self, filter_string: str) -> Iterator[MlflowRun]:
        """The runs that were not deleted, page by page."""
        return self.store.runs(self.experiment, filter_string)

    def cell(
        self, place: Place, tags: Mapping[str, str], params: Mapping[str, str], *, name: str
    ) -> str:
        """The run id of a cell's parent, which is made where it is not there.

        Making it, describing it and hanging its runs below it are steps of their own: whichever
        is cut short is done by the next call, and none before it again.

        Args:
            place: Which cell.
            tags: Of a new parent, beside those that it is found by.
            params: Of one that has none yet.
            name: Of a new parent.
        """
        if place not in self.made:
            known = {"kind": "cell", "cell": place[0], "stage": place[1]}
            self.made[place] = self._run(known, tags, name=name).info.run_id
            self._bare.add(place)
        parent = self.made[place]
        if params and place in self._bare:
            self._describe(parent, params)
            self._bare.discard(place)
        below = self._children.get(place, {})
        for child in [child for child, above in below.items() if above != parent]:
            self._hang(child, parent, below)
        return parent

    def forget(self, place: Place) -> None:
        """Take note that a cell's parent was deleted."""
        del self.made[place]
        self._bare.discard(place)

    def send(self, entry: Entry, artifacts: Path, parent: str) -> None:
        """Write a run; what an earlier attempt wrote of it is found and completed.

        Args:
            entry: The run.
            artifacts: A folder of files.
            parent: Run id of its cell's parent.
        """
        known = {"kind": "run", "key": entry.key}
        run_id = self.partial.get(entry.key)
        if run_id is None:
            tags = {**entry.tags, "cell": entry.cell, "mlflow.parentRunId": parent}
            run = self._run(known, tags, name=entry.name, started=entry.started)
        else:
            run = self.store.client.get_run(run_id)
        run_id = self.partial[entry.key] = run.info.run_id
        metrics = [Metric(name, value, entry.ended, step) for name, value, step in entry.metrics]
        params = [Param(name, value) for name, value in entry.params.items()]
        above = [RunTag("mlflow.parentRunId", parent)]  # an earlier attempt may have had another
        try:
            self.writing().log_batch(run_id, metrics=metrics, params=params, tags=above)
            self._send_artifacts(run, artifacts)
            self.writing().set_terminated(run_id, "FINISHED", end_time=entry.ended)
        except MlflowException as error:
            if not self.deleted(run_id):
                raise
            del self.partial[entry.key]
            raise StoreGoneError(
                f"{entry.name} was deleted while it was written; once more"
            ) from error

    def settle(self, entry: Entry) -> None:
        """Take note that a run is certainly there."""
        self.records[entry.key] = entry.record()
        place = place_of(entry.cell, entry.tags)
        self._children.setdefault(place, {})[self.partial.pop(entry.key)] = self.made[place]

    def deleted(self, run_id: str) -> bool:
        """Whether a run was deleted, in the UI for instance.

        Raises:
            StoreGoneError: If the whole experiment was.
        """
        self.check()
        try:
            return self.store.lifecycle(run_id) in ("deleted", "")
        except MlflowException:
            return False

    def check(self) -> None:
        """Make sure that nobody has deleted the experiment.

        Raises:
            StoreGoneError: If somebody has.
        """
        experiment = self.store.client.get_experiment(self.experiment)
        if experiment.lifecycle_stage == "deleted":
            raise StoreGoneError(
                "the experiment was deleted; restore it in MLflow, or stop the study and run it "
                "again, which restores it"
            )

    def _hang(self, child: str, parent: str, below: dict[str, str]) -> None:
        """Hang a run below a parent, unless somebody has deleted the run."""
        try:
            self.writing().set_tag(child, "mlflow.parentRunId", parent)
        except MlflowException:
            if not self.deleted(child):
                raise
            del below[child]
        else:
            below[child] = parent

    def _describe(self, run_id: str, params: Mapping[str, str]) -> None:
        batch = [Param(name, value) for name, value in params.items()]
        self.writing().log_batch(run_id, params=batch)

    def _run(
        self,
        known: Mapping[str, str],
        tags: Mapping[str, str],
        *,
        name: str,
        started: int | None = None,
    ) -> MlflowRun:
        """A new run, or the one that an attempt made whose answer was lost.

        Args:
            known: Tags that it alone has.
            tags: Its other tags.
            name: As people read it.
            started: Unix time in milliseconds; None takes now.
        """
        alone = " and ".join(f"tags.{tag} = '{value}'" for tag, value in known.items())
        if alone in self._unsure:
            for run in self.search(alone):
                self._unsure.discard(alone)
                return run
        client = self.writing()
        self._unsure.add(alone)
        run = client.create_run(
            self.experiment, start_time=started, tags={**tags, **known}, run_name=name
        )
        self._unsure.discard(alone)
        return run

    def _send_artifacts(self, run: MlflowRun, artifacts: Path) -> None:
        place = get_artifact_repository(run.info.artifact_uri, self.store.uri)
        try:
            for file in sorted(artifacts.iterdir()):
                self._may_write()
                place.log_artifact(str(file))
        except _object_store_errors() as error:
            raise MlflowException(f"artifacts: {error}") from error


def _object_store_errors() -> tuple[type[Exception], ...]:
    """The errors of the object stores' clients, as far as those have been loaded."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in OBJECT_STORE_ERRORS]
    return tuple(error for error in found if error is not None)
