"""The parent runs of a study's cells: created, described and summarised in MLflow."""

import math
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from study.models.model import describe
from study.planning.runs import Cell, Run
from study.planning.stages import CellPlan, Stage
from study.tasks import metrics
from study.techniques.base import parts_of
from study.tracking import schema
from study.tracking.entry import Record
from study.tracking.experiment import CellStage, Experiment
from study.tracking.store import TROUBLE
from study.tracking.summary import note, summary


class CellRuns:
    """The parent runs of a study's cells.

    The driver plans cells and reports problems; the writer thread alone calls `create` and
    `summarise`. What both touch is guarded by a lock, which is never held during a request.
    """

    def __init__(self, experiment: Experiment, source: Path | None) -> None:
        """Read the parent runs that the experiment has.

        Args:
            experiment: The study's.
            source: The study file, for MLflow's source column; None where there is none.
        """
        self._experiment, self._source = experiment, source
        self._tags = {at: run.data.tags for at, run in experiment.cells.items()}
        self._status = {at: run.info.status for at, run in experiment.cells.items()}
        self._plans: dict[CellStage, CellPlan] = {}
        self._new: list[CellPlan] = []  # their parent runs are not created yet
        self._stale: set[CellStage] = set()  # their summaries are not up to date
        self._problems: dict[CellStage, str] = {}  # why runs are missing
        self._unfinished = "RUNNING"  # MLflow's status of a cell with missing runs
        self._lock = threading.Lock()

    # --- for the driver ---

    def add(self, plans: Iterable[CellPlan]) -> None:
        """Take cells that the study asks for; the thread creates their parents before their runs'.

        A plan replaces an earlier one of the same cell and stage.
        """
        with self._lock:
            for plan in plans:
                self._plans[plan.key] = plan
                self._new.append(plan)

    def note_problem(self, run: Run, stage: Stage, reason: str) -> None:
        """Note in a run's cell why the run is missing."""
        at = run.cell.key, stage
        with self._lock:
            self._problems[at] = f"{run.seed.label}: {reason}"[:500]
            self._stale.add(at)

    def scores(self) -> list[tuple[str, metrics.Metric, list[Record]]]:
        """Each final cell's name, its metric, and its finished runs."""
        return [
            (plan.cell.name, metrics.metric_named(plan.cell.task.metric), self._finished(plan))
            for plan in list(self._plans.values())  # a copy: the other thread adds to it
            if plan.stage == "final"
        ]

    def close(self) -> None:
        """Have the next `summarise` mark cells with missing runs as killed."""
        with self._lock:
            if self._unfinished == "KILLED":
                return
            self._unfinished = "KILLED"
            known = list(self._status.items())  # a copy: the thread may be adding to it
            complete = {at for at, status in known if status == "FINISHED"}
            self._stale |= self._plans.keys() - complete

    def outdated(self) -> list[str]:
        """Names of the cells whose summary is not up to date."""
        stale = [self._plans[at] for at in list(self._stale) if at in self._plans]
        return sorted(plan.cell.name for plan in stale)

    # --- for the thread, and before it starts ---

    def retired(self) -> list[CellStage]:
        """Cells that the study no longer asks for and that are not marked so yet."""
        gone = [at for at in self._experiment.parents if at not in self._plans]
        return [at for at in gone if self._tags[at].get(schema.IN_STUDY) != "false"]

    def mark_retired(self, cells: Iterable[CellStage]) -> None:
        """Mark cells as no longer in the study."""
        for at in cells:
            run_id = self._experiment.parents[at]
            self._experiment.writing().set_tag(run_id, schema.IN_STUDY, "false")

    def touch(self, at: CellStage) -> None:
        """Note that a cell's summary is out of date."""
        with self._lock:
            self._stale.add(at)

    def create(self) -> None:
        """Create the parent runs of new cells; update the tags of those that exist."""
        while self._new:
            plan = self._new[0]
            texts = {**cell_tags(plan), schema.IN_STUDY: "true"}
            tags = {name: schema.storable(text) for name, text in texts.items()}
            at = plan.key
            new = at not in self._experiment.parents
            source = {schema.SOURCE: str(self._source)} if self._source else {}
            run_id = self._experiment.parent(
                at, tags | source, flat_parameters(plan.cell), name=plan.cell.name
            )
            before = tags if new else self._tags.get(at, {})
            changed = [
                RunTag(name, value) for name, value in tags.items() if before.get(name) != value
            ]
            if changed:
                # The summary is of other runs now. The status goes first: a driver that is killed
                # between the two requests finds the old tags at its next start and does both again.
                self._set_status(at, "RUNNING")
                self._experiment.writing().log_batch(run_id, tags=changed)
            with self._lock:
                self._tags[at] = {**before, **tags}
                self._new.pop(0)
                if self._status.get(at) != "FINISHED":
                    self._stale.add(at)

    def summarise(self) -> None:
        """Bring all summaries up to date.

        Raises:
            Exception: One of `TROUBLE`; the cell then stays out of date.
        """
        while True:
            with self._lock:
                if not self._stale:
                    return
                at, unfinished = self._stale.pop(), self._unfinished
            try:
                # Otherwise the parent run is not created yet, or the cell is not in the study.
                if at in self._plans and at in self._experiment.parents:
                    self._update(at, unfinished)
            except TROUBLE:
                with self._lock:
                    self._stale.add(at)
                raise

    def _finished(self, plan: CellPlan) -> list[Record]:
        records = self._experiment.records
        return [records[run.key] for run in plan.runs if run.key in records]

    def _update(self, at: CellStage, unfinished: str) -> None:
        """Write a cell's summary and status; `unfinished` is the status if runs are missing."""
        now, plan = int(time.time() * 1000), self._plans[at]
        values = summary(self._finished(plan), len(plan.seeds))
        points = [Metric(n, v, now, 0) for n, v in values.items() if math.isfinite(v)]
        problem = self._problems.get(at) if values[schema.MISSING] else None
        described = {schema.NOTE: note(values, problem)}
        if problem or self._tags[at].get(schema.PROBLEM):
            described[schema.PROBLEM] = problem or ""
        tags = [RunTag(name, schema.storable(text)) for name, text in described.items()]
        run_id = self._experiment.parents[at]
        try:
            self._experiment.writing().log_batch(run_id, metrics=points, tags=tags)
        except MlflowException:
            if self._experiment.deleted(run_id):
                self._experiment.forget(at)
                self._status.pop(at, None)
                self.add([plan])  # created again, and its runs attached to it
            raise
        self._tags[at] = {**self._tags[at], **described}
        self._set_status(at, unfinished if values[schema.MISSING] else "FINISHED")

    def _set_status(self, at: CellStage, status: str) -> None:
        if self._status.get(at, "RUNNING") == status:  # a new run has the status RUNNING
            return
        run_id = self._experiment.parents[at]
        if status == "RUNNING":
            self._experiment.writing().update_run(run_id, status=status)
        else:
            self._experiment.writing().set_terminated(run_id, status)
        self._status[at] = status


def cell_tags(plan: CellPlan) -> dict[str, str]:
    """The tags of a cell's parent run."""
    cell = plan.cell
    metric = cell.task.metric
    return {
        schema.KIND: schema.CELL_KIND,
        schema.CELL: cell.key,
        schema.TASK: cell.task.name,
        schema.MODEL: cell.model.name,
        schema.TECHNIQUE: cell.technique.title,
        schema.CONFIGURATION: cell.label,
        schema.METRIC: metric.rpartition(":")[2],
        schema.TASK_TYPE: cell.task.task_type,
        schema.STAGE: plan.stage,
        schema.SEEDS: plan.seeds_text,
        schema.TRIED: str(plan.tried),
        schema.SEARCH: plan.search,
        **{f"{schema.MODEL_FACT}{name}": value for name, value in describe(cell.model).items()},
    }


def flat_parameters(cell: Cell) -> dict[str, str]:
    """What the cell trains with: the recipe after the technique's hook, and each field's value."""
    flat: dict[str, Any] = {}
    for name, value in cell.technique.recipe(cell.recipe).model_dump().items():
        flat[f"recipe.{name}"] = value
    for part in parts_of(cell.technique):
        flat |= {f"{part.title}.{name}": getattr(part, name) for name in type(part).model_fields}
    return {name: str(value) for name, value in flat.items()}
